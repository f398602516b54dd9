package controller

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

func TestWakeupsAreBounded(t *testing.T) {
	a, b := types.NamespacedName{Name: "a"}, types.NamespacedName{Name: "b"}
	w := newWakeups(3, time.Second)
	now := time.Now()
	for i, want := range []time.Duration{0, 0, 0, time.Second, time.Second} {
		if got := w.delay(a, now); got != want {
			t.Errorf("wake-up %d has to wait for %s, want %s", i, got, want)
		}
	}
	if got := w.delay(b, now); got != 0 {
		t.Errorf("another resource has to wait for %s", got)
	}
	if got := w.delay(a, now.Add(time.Second)); got != 0 {
		t.Errorf("a second later it has to wait for %s", got)
	}
	w.forget(a)
	if got := w.delay(a, now); got != 0 {
		t.Errorf("a resource that is made again has to wait for %s", got)
	}
}

func TestAFutileUpdateIsNotSentAgainAtOnce(t *testing.T) {
	var f futile
	now := time.Now()
	left := []jsbuilder.Difference{{Field: "allow_msg_ttl", Have: "false", Want: "true"}}
	if err := f.known("A", left, now); err != nil {
		t.Errorf("Before any update: %v", err)
	}
	if err := f.note("A", left, now); err == nil {
		t.Error("An update that left a difference is no error")
	}
	if err := f.known("A", left, now.Add(time.Second)); err == nil {
		t.Error("The same is sent again at once")
	}
	if err := f.known("B", left, now); err != nil {
		t.Errorf("Another stream: %v", err)
	}
	if err := f.known("A", append(left, jsbuilder.Difference{Field: "max_age"}), now); err != nil {
		t.Errorf("Another difference: %v", err)
	}
	if err := f.known("A", left, now.Add(slowRetry)); err != nil {
		t.Errorf("After a while: %v", err)
	}
	if err := f.note("A", nil, now); err != nil || f.known("A", left, now) != nil {
		t.Errorf("After an update that was applied: %v", err)
	}
}
