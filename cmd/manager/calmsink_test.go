package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
)

func TestCalm(t *testing.T) {
	for name, test := range map[string]struct {
		err     error
		message string
		want    string
	}{
		"the end of the election":      {errors.New(electionOver), lateMessage, `"level"=0 "msg"="Ended the leader election"`},
		"another error after the stop": {errors.New("boom"), lateMessage, `"msg"="` + lateMessage + `" "error"="boom"`},
		"no error":                     {nil, lateMessage, `"error"=null`},
		"a lease lost while it leads":  {errors.New(electionOver), "Stopped the operator", `"error"="` + electionOver + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			logger := calm(funcr.New(func(prefix, args string) { got = prefix + " " + args }, funcr.Options{}))
			logger.WithName("setup").WithValues("key", "value").Error(test.err, test.message)
			if !strings.HasPrefix(got, "setup ") || !strings.Contains(got, test.want) || !strings.Contains(got, `"key"="value"`) {
				t.Errorf("logged %s, want %s", got, test.want)
			}
		})
	}
}

func TestCalmProbes(t *testing.T) {
	var got []string
	logger := calm(funcr.New(func(_, args string) { got = append(got, args) }, funcr.Options{}))
	logger.Info(probeMessage, "statuses", "nats")
	logger.Info("Connected to NATS")
	if len(got) != 1 || !strings.Contains(got[0], "Connected") {
		t.Errorf("logged %q, want the second line alone", got)
	}
}
