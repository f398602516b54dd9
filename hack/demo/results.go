package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	newest = 5
	// readTimeout bounds reading through auditstore, and the comparison.
	readTimeout = 2 * time.Minute
)

// migrated is the AuditStream of the samples that takes over the demo's bucket.
func (d *demo) migrated(ctx context.Context) (*v1alpha1.AuditStream, error) {
	list := &v1alpha1.AuditStreamList{}
	if err := d.k8s.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing the AuditStreams: %w", err)
	}
	for i := range list.Items {
		for _, source := range list.Items[i].Spec.MigrateFrom {
			if source.Bucket == testenv.LegacyBucketName {
				return &list.Items[i], nil
			}
		}
	}
	return nil, fmt.Errorf("no AuditStream in config/samples migrates from the bucket %s", testenv.LegacyBucketName)
}

func (d *demo) showEntries(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stream, err := d.migrated(ctx)
	if err != nil {
		return err
	}
	store, err := auditstore.New(ctx, d.js, auditstore.Config{Stream: stream.Spec.Stream, Subject: stream.Spec.Subject})
	if err != nil {
		return fmt.Errorf("opening the stream %s with auditstore: %w", stream.Spec.Stream, err)
	}
	entries, total, err := store.List(ctx, newest, 0)
	if err != nil {
		return fmt.Errorf("listing the newest entries with auditstore: %w", err)
	}
	d.say("The newest %d of %d entries, read with auditstore from the stream %s:", len(entries), total, stream.Spec.Stream)
	d.print(entryTable(entries))
	switch {
	case total != d.opts.entries:
		return fmt.Errorf("auditstore counts %d entries, and the bucket was filled with %d", total, d.opts.entries)
	case len(entries) != min(newest, total):
		return fmt.Errorf("auditstore listed %d entries, not the newest %d", len(entries), min(newest, total))
	}
	return nil
}

func entryTable(entries []auditstore.Entry) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "TIMESTAMP\tUSER\tREQUEST\tRESPONSE\tID")
	for _, e := range entries {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s %s\t%d\t%s\n",
			e.Timestamp.Format(time.RFC3339), e.User, e.Method, e.Path, e.ResponseCode, e.ID)
	}
	_ = w.Flush()
	return b.String()
}

// compare reads bucket and stream whole.
func (d *demo) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stream, err := d.migrated(ctx)
	if err != nil {
		return err
	}
	result, err := testenv.Compare(ctx, d.js, testenv.LegacyBucketName, stream.Spec.Stream, stream.Spec.Subject)
	if err != nil {
		return err
	}
	d.say("Totals: %d entries in the bucket %s, %d in the stream %s",
		result.BucketEntries, testenv.LegacyBucketName, result.StreamEntries, stream.Spec.Stream)
	if err := result.Err(); err != nil {
		return err
	}
	if result.BucketEntries != d.opts.entries || result.StreamEntries != d.opts.entries {
		return fmt.Errorf("the bucket was filled with %d entries, and the totals differ from that", d.opts.entries)
	}
	d.say("They agree: every key of the bucket is in the stream exactly once, with the same bytes")
	return nil
}

// stayUp waits for Ctrl-C, except with --once. It is an error where one of what it shows ends before.
func (d *demo) stayUp(ctx context.Context) error {
	if d.opts.once {
		return ctx.Err()
	}
	d.print(d.directions())
	select {
	case <-ctx.Done():
		return nil
	case <-d.manager.Done():
		return endedByItself("operator", d.manager.Err())
	case <-d.workload.process.Done():
		return endedByItself("service", d.workload.process.Err())
	}
}

func endedByItself(what string, err error) error {
	if err == nil { // exit status 0
		return fmt.Errorf("the %s has ended by itself", what)
	}
	return fmt.Errorf("the %s has ended by itself: %w", what, err)
}

func (d *demo) directions() string {
	path := "$PATH"
	if kubectl, err := testenv.Kubectl(); err == nil {
		path = filepath.Dir(kubectl) + ":$PATH"
	}
	return fmt.Sprintf(`
Everything stays up. In another terminal:

  export %s
  export NATS_URL=%s
  export PATH=%s

  kubectl get auditstreams -A -o wide
  kubectl explain auditstream.spec
  kubectl get auditstream api-audit -o yaml
  kubectl get events
  curl -s %s | grep ^auditstream
  tail -f %s
  curl -s -H 'Authorization: Bearer %s' -X PUT -d 'two of them' %s/orders/8
  curl -s -H 'Authorization: Bearer %s' '%s/audit?limit=3'

Ctrl-C stops everything and leaves nothing behind%s.`,
		strings.Join(d.cp.KubectlEnv(), "\n  export "), d.nats.URL(), path, d.manager.MetricsURL, d.manager.LogFile,
		d.workload.clerk, d.workload.url, d.workload.auditor, d.workload.url, d.kept())
}
