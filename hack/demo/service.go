package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// serviceTimeout bounds building and starting the example, and each of the requests.
const serviceTimeout = 2 * time.Minute

// workload is examples/service, running.
type workload struct {
	url                 string
	clerk, auditor, log string
	process             *testenv.Service
}

// startService runs the example with a binding, as Kubernetes mounts it from a Secret.
func (d *demo) startService(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	stream, err := d.migrated(ctx)
	if err != nil {
		return err
	}
	d.say("Starting examples/service, which finds the stream %s by a service binding", stream.Spec.Stream)
	binary, err := d.buildService(ctx)
	if err != nil {
		return err
	}
	root := filepath.Join(d.dir, "bindings")
	binding := map[string]string{"type": "auditstream", "uri": d.nats.URL(), "stream": stream.Spec.Stream, "subject": stream.Spec.Subject}
	if err := writeBinding(filepath.Join(root, "audit"), binding); err != nil {
		return err
	}
	w := &workload{clerk: rand.Text(), auditor: rand.Text(), log: filepath.Join(d.dir, "service.log")}
	service, err := testenv.StartService(ctx, testenv.ServiceOptions{
		Binary:  binary,
		Env:     []string{"SERVICE_BINDING_ROOT=" + root, "DEMO_CLERK_TOKEN=" + w.clerk, "DEMO_AUDITOR_TOKEN=" + w.auditor},
		LogFile: w.log,
	})
	if err != nil {
		return err
	}
	w.url, w.process = service.URL, service
	d.workload = w
	d.atEnd(service.Stop)
	return nil
}

func (d *demo) buildService(ctx context.Context) (binary string, err error) {
	root, err := testenv.RepoRoot()
	if err != nil {
		return "", err
	}
	binary = filepath.Join(d.dir, "service")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./examples/service")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building examples/service: %w\n%s", err, out)
	}
	return binary, nil
}

func writeBinding(dir string, binding map[string]string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for key, value := range binding {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// showService makes one request and reads its entry from the trail, over HTTP as everything here.
func (d *demo) showService(ctx context.Context) error {
	const path = "/orders/7"
	if _, err := d.request(ctx, http.MethodPut, path, d.workload.clerk, http.StatusCreated); err != nil {
		return err
	}
	body, err := d.request(ctx, http.MethodGet, "/audit?limit=1", d.workload.auditor, http.StatusOK)
	if err != nil {
		return err
	}
	var page struct {
		Total int                `json:"total_items"`
		Items []auditstore.Entry `json:"items"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return fmt.Errorf("reading the answer of /audit: %w", err)
	}
	d.say("It was asked to PUT %s, and GET /audit?limit=1 has that on top of %d others:", path, page.Total-len(page.Items))
	d.print(entryTable(page.Items))
	switch {
	case len(page.Items) != 1 || page.Items[0].Path != path || page.Items[0].ResponseCode != http.StatusCreated:
		return fmt.Errorf("the newest entry is not that of PUT %s", path)
	case page.Total != d.opts.entries+1:
		return fmt.Errorf("the service counts %d entries, want %d and its own", page.Total, d.opts.entries)
	}
	return nil
}

func (d *demo) request(ctx context.Context, method, path, token string, want int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, d.workload.url+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != want {
		err = fmt.Errorf("%s %s answered %s: %s", method, path, response.Status, body)
	}
	return body, err
}
