package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

const (
	defaultAddress = "127.0.0.1:8080"
	headerTimeout  = 10 * time.Second
	// shutdownTimeout is for requests that are under way. It has to be less than the Pod's terminationGracePeriodSeconds.
	shutdownTimeout = 20 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	err := run(ctx, log)
	stop()
	if err != nil {
		log.Error("Ended with an error", "error", err)
		os.Exit(1)
	}
}

// run serves until the context ends.
func run(ctx context.Context, log *slog.Logger) (err error) {
	users, err := usersFromEnvironment()
	if err != nil {
		return err
	}
	// The binding is what Kubernetes mounts below $SERVICE_BINDING_ROOT. The connection is made again whenever it is lost.
	store, err := auditstore.Open(ctx, auditstore.WithClientName("orders"), auditstore.WithLogger(log))
	if err != nil {
		return err
	}
	// Last of all: requests that are under way still write their entries.
	defer func() { err = errors.Join(err, store.Close()) }()

	handler, err := newHandler(store, users, log)
	if err != nil {
		return err
	}
	return serve(ctx, log, handler)
}

func serve(ctx context.Context, log *slog.Logger, handler http.Handler) error {
	address := os.Getenv("ADDRESS")
	if address == "" {
		address = defaultAddress
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening on $ADDRESS: %w", err)
	}
	// No WriteTimeout: it would break long exports.
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	log.Info("Listening", "url", "http://"+listener.Addr().String())

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("Stopping: requests that are under way are answered")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return server.Shutdown(ctx)
}
