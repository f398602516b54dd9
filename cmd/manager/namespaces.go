package main

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// namespaceNames are the names in --namespaces. None means every namespace.
func (o *options) namespaceNames() []string {
	if strings.TrimSpace(o.namespaces) == "" {
		return nil
	}
	names := strings.Split(o.namespaces, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

func (o *options) validateNamespaces() error {
	var errs []error
	for _, name := range o.namespaceNames() {
		if problems := content.IsDNS1123Label(name); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("--namespaces: %q is not the name of a namespace: %s", name, strings.Join(problems, "; ")))
		}
	}
	return errors.Join(errs...)
}

// cacheOptions has the operator watch AuditStreams in the given namespaces only, so that its roles need to permit no more.
func (o *options) cacheOptions() cache.Options {
	names := o.namespaceNames()
	if len(names) == 0 {
		return cache.Options{}
	}
	byName := make(map[string]cache.Config, len(names))
	for _, name := range names {
		byName[name] = cache.Config{}
	}
	return cache.Options{DefaultNamespaces: byName}
}
