// Package server serves the artifacts.
package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fluxcd/pkg/artifact/config"
)

// Start serves the files below the storage path until ctx ends.
func Start(ctx context.Context, options *config.Options) error {
	server := &http.Server{
		Addr:              options.StorageAddress,
		Handler:           http.FileServer(http.Dir(options.StoragePath)),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving artifacts on %s: %w", options.StorageAddress, err)
	}
	return nil
}
