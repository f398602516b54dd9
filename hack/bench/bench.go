package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/hack/internal/rig"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const waitTimeout = 2 * time.Minute

// bench is what is measured, and what it is measured with.
type bench struct {
	*rig.Rig
	manager  *testenv.Manager
	requests atomic.Int64
}

func start(ctx context.Context) (*bench, error) {
	fmt.Println("Starting the control plane and nats-server")
	r, err := rig.Start(ctx, 1)
	if err != nil {
		return nil, err
	}
	b := &bench{Rig: r}
	if err := b.countRequests(); err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	if b.manager, err = r.StartManager(ctx); err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	return b, nil
}

// countRequests counts the requests to the JetStream API: they are messages, so a subscription of an own connection sees
// them.
func (b *bench) countRequests() error {
	counter, err := b.Dial()
	if err != nil {
		return err
	}
	if _, err := counter.Subscribe("$JS.API.>", func(*nats.Msg) { b.requests.Add(1) }); err != nil {
		return err
	}
	return counter.Flush()
}

func auditStream(name string) *v1alpha1.AuditStream {
	return &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: name},
		Spec:       v1alpha1.AuditStreamSpec{Stream: name, Subject: "bench." + name, MaxAge: "30d"},
	}
}

// createReady creates the resource and returns how long it took until its Ready condition was True.
func (b *bench) createReady(ctx context.Context, obj *v1alpha1.AuditStream) (time.Duration, error) {
	return b.CreateUntil(ctx, obj, v1alpha1.ConditionReady, waitTimeout)
}
