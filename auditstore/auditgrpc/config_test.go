package auditgrpc_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/osapi-io/auditstream-operator/auditstore/auditgrpc"
)

func TestNewRefuses(t *testing.T) {
	store := failing(nil)
	for name, test := range map[string]struct {
		change func(*auditgrpc.Config)
		want   string
	}{
		"no user":               {func(c *auditgrpc.Config) { c.User = nil }, "User is nil"},
		"failure mode":          {func(c *auditgrpc.Config) { c.OnFailure = 7 }, "OnFailure is 7"},
		"rejections":            {func(c *auditgrpc.Config) { c.Rejections = 7 }, "Rejections is 7"},
		"proxy header":          {func(c *auditgrpc.Config) { c.ProxyHeader = 7 }, "ProxyHeader is 7"},
		"header, no proxies":    {func(c *auditgrpc.Config) { c.ProxyHeader = auditgrpc.Forwarded }, "name the TrustedProxies"},
		"timeout":               {func(c *auditgrpc.Config) { c.WriteTimeout = -time.Second }, "WriteTimeout is -1s"},
		"everybody":             {func(c *auditgrpc.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("::/0")} }, "TrustedProxies[0] is ::/0"},
		"exclude, empty":        {func(c *auditgrpc.Config) { c.Exclude = []string{""} }, `Exclude[0] is ""`},
		"exclude, slash":        {func(c *auditgrpc.Config) { c.Exclude = []string{"a", "/"} }, `Exclude[1] is "/"`},
		"exclude, no method":    {func(c *auditgrpc.Config) { c.Exclude = []string{"a.B/"} }, `Exclude[0] is "a.B/"`},
		"exclude, two slashes":  {func(c *auditgrpc.Config) { c.Exclude = []string{"a.B/C/D"} }, `Exclude[0] is "a.B/C/D"`},
		"exclude, dot":          {func(c *auditgrpc.Config) { c.Exclude = []string{"a."} }, `Exclude[0] is "a."`},
		"exclude, wildcard":     {func(c *auditgrpc.Config) { c.Exclude = []string{"a.*"} }, `Exclude[0] is "a.*"`},
		"exclude, all methods":  {func(c *auditgrpc.Config) { c.Exclude = []string{"a.B/*"} }, `Exclude[0] is "a.B/*"`},
		"exclude, only slashes": {func(c *auditgrpc.Config) { c.Exclude = []string{"//"} }, `Exclude[0] is "//"`},
	} {
		cfg := auditgrpc.Config{User: nobody}
		test.change(&cfg)
		if _, err := auditgrpc.New(store, cfg); !errors.Is(err, auditgrpc.ErrInvalidConfig) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := auditgrpc.New(nil, auditgrpc.Config{User: nobody}); !errors.Is(err, auditgrpc.ErrInvalidConfig) {
		t.Errorf("no store: %v", err)
	}
}

func TestAZeroInterceptorAnswersNothing(t *testing.T) {
	for _, audit := range []*auditgrpc.Interceptor{nil, {}} {
		if _, err := audit.Unary(t.Context(), nil, nil, func(context.Context, any) (any, error) { return 1, nil }); status.Code(err) != codes.Internal {
			t.Errorf("%v", err)
		}
		if err := audit.Stream(nil, nil, nil, func(any, grpc.ServerStream) error { return nil }); status.Code(err) != codes.Internal {
			t.Errorf("%v", err)
		}
	}
}
