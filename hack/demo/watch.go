package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

const (
	readyTimeout = 90 * time.Second
	readyPoll    = 200 * time.Millisecond
)

// awaitReady prints the table of all AuditStreams whenever it changes, until each is Ready, and Migrated where it
// declares a migration. It gives up when the operator says that it cannot get on.
func (d *demo) awaitReady(ctx context.Context) error {
	d.say("Watching: kubectl get auditstreams -A")
	applied := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not all were Ready within %s", readyTimeout))
	defer cancel()
	shown := ""
	for {
		list := &v1alpha1.AuditStreamList{}
		if err := d.k8s.List(ctx, list); err != nil {
			return fmt.Errorf("listing the AuditStreams: %w", err)
		}
		if now := fingerprint(list); now != shown {
			shown = now
			if err := d.printTable(ctx); err != nil {
				return err
			}
		}
		stalled, pending := unready(list)
		switch {
		case len(list.Items) == 0:
			return errors.New("config/samples holds no AuditStream")
		case pending == nil:
			d.say("All are Ready, %.1f s after they were applied", time.Since(applied).Seconds())
			return nil
		case stalled:
			return pending
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), pending)
		case <-d.manager.Done():
			return fmt.Errorf("the operator has ended by itself (%w) before all were Ready: %w", d.manager.Err(), pending)
		case <-time.After(readyPoll):
		}
	}
}

func (d *demo) printTable(ctx context.Context) error {
	table, err := d.cp.Kubectl(ctx, "get", "auditstreams", "-A")
	if err != nil {
		return err
	}
	d.say("")
	d.print(table)
	return nil
}

// fingerprint holds what the table shows, but for the age.
func fingerprint(list *v1alpha1.AuditStreamList) string {
	var b strings.Builder
	for i := range list.Items {
		stream := &list.Items[i]
		fmt.Fprintf(&b, "%s/%s", stream.Namespace, stream.Name)
		for _, name := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionMigrated} {
			if c := meta.FindStatusCondition(stream.Status.Conditions, name); c != nil {
				fmt.Fprintf(&b, " %s=%s:%s", c.Type, c.Status, c.Reason)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// unready says in pending what each stream that is not Ready, or not Migrated, tells about itself, nil when there is
// none; stalled is whether one of them will not become Ready without a change.
func unready(list *v1alpha1.AuditStreamList) (stalled bool, pending error) {
	var errs []error
	for i := range list.Items {
		stream := &list.Items[i]
		conditions := stream.Status.Conditions
		current := stream.Status.ObservedGeneration == stream.Generation
		migrated := len(stream.Spec.MigrateFrom) == 0 || meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionMigrated)
		if current && migrated && meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionReady) {
			continue
		}
		stalled = stalled || meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionStalled)
		errs = append(errs, fmt.Errorf("%s/%s is not Ready: %s", stream.Namespace, stream.Name, describe(conditions)))
	}
	return stalled, errors.Join(errs...)
}

func describe(conditions []metav1.Condition) string {
	if len(conditions) == 0 {
		return "it has no conditions yet"
	}
	lines := make([]string, 0, len(conditions))
	for _, c := range conditions {
		lines = append(lines, fmt.Sprintf("\n    %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(lines, "")
}
