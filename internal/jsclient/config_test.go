package jsclient

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	secret := tempFile(t, "secret", marker+"\n")
	empty := tempFile(t, "empty", "\n")
	garbage := tempFile(t, "garbage", marker)
	missing := filepath.Join(t.TempDir(), "missing")
	for name, tc := range map[string]struct {
		cfg  Config
		want []string // parts of the error; none: valid
	}{
		"one URL":                  {Config{URL: "nats://nats:4222"}, nil},
		"TLS":                      {Config{URL: "tls://nats:4222"}, nil},
		"several URLs":             {Config{URL: "nats://a:4222, nats://b:4222"}, nil},
		"no scheme":                {Config{URL: "nats:4222"}, nil},
		"user in URL":              {Config{URL: "nats://me:" + marker + "@nats:4222"}, nil},
		"password file":            {Config{URL: "nats://nats", User: "me", PasswordFile: secret}, nil},
		"token file and domain":    {Config{URL: "nats://nats", TokenFile: secret, Domain: "hub"}, nil},
		"no URL":                   {Config{}, []string{"--nats-url is empty"}},
		"only commas":              {Config{URL: " , "}, []string{"--nats-url is empty"}},
		"scheme":                   {Config{URL: "http://nats"}, []string{"--nats-url", `"http"`, "nats://"}},
		"no host":                  {Config{URL: "nats://:4222"}, []string{"--nats-url", "no host"}},
		"path":                     {Config{URL: "nats://nats:4222/x"}, []string{"--nats-url", "more than"}},
		"slash in password":        {Config{URL: "nats://me:a/" + marker + "@nats:4222"}, []string{"--nats-url", "percent-encoded"}},
		"slash in token":           {Config{URL: "nats://a/" + marker + "@nats:4222"}, []string{"--nats-url"}},
		"space in password":        {Config{URL: "nats://me:a " + marker + "@nats:4222"}, []string{"--nats-url"}},
		"comma in password":        {Config{URL: "nats://me:" + marker + ",abc@nats:4222"}, []string{"--nats-url", "percent-encode", "%2C", `"xxxxx"`}},
		"commas in password":       {Config{URL: "nats://a,nats://me:a," + marker + ",c@nats:4222"}, []string{"--nats-url", "percent-encode"}},
		"password ends in a comma": {Config{URL: "nats://me:" + marker + ",@nats:4222"}, []string{"--nats-url", "percent-encode"}},
		"comma in token":           {Config{URL: marker + ",abc@nats:4222"}, []string{"--nats-url", "percent-encode"}},
		"users of two servers":     {Config{URL: "nats://me:" + marker + "@a:4222,me:" + marker + "@b:4222"}, nil},
		"bad port":                 {Config{URL: "nats://me:" + marker + "@nats:port"}, []string{"--nats-url"}},
		"mixed schemes":            {Config{URL: "ws://a,nats://b"}, []string{"--nats-url", "WebSocket"}},
		"user without password":    {Config{URL: "nats://nats", User: "me"}, []string{"--nats-user", "--nats-password-file"}},
		"password without user":    {Config{URL: "nats://nats", PasswordFile: secret}, []string{"--nats-user", "--nats-password-file"}},
		"certificate without key":  {Config{URL: "nats://nats", CertFile: secret}, []string{"--nats-cert", "--nats-key"}},
		"token and user":           {Config{URL: "nats://nats", TokenFile: secret, User: "me", PasswordFile: secret}, []string{"--nats-user and --nats-token-file contradict"}},
		"creds and token":          {Config{URL: "nats://nats", CredsFile: secret, TokenFile: secret}, []string{"--nats-creds and --nats-token-file contradict"}},
		"URL and token":            {Config{URL: "nats://t:x@nats", TokenFile: secret}, []string{"credentials in --nats-url contradict"}},
		"domain with dots":         {Config{URL: "nats://nats", Domain: "a.b"}, []string{"--nats-domain", `"a.b"`}},
		"missing password file":    {Config{URL: "nats://nats", User: "me", PasswordFile: missing}, []string{"--nats-password-file", missing}},
		"missing token file":       {Config{URL: "nats://nats", TokenFile: missing}, []string{"--nats-token-file", missing}},
		"missing CA":               {Config{URL: "nats://nats", CAFile: missing}, []string{"--nats-ca", missing}},
		"missing certificate":      {Config{URL: "nats://nats", CertFile: missing, KeyFile: secret}, []string{"--nats-cert", missing}},
		"missing creds":            {Config{URL: "nats://nats", CredsFile: missing}, []string{"--nats-creds", missing}},
		"empty token file":         {Config{URL: "nats://nats", TokenFile: empty}, []string{"--nats-token-file", "is empty"}},
		"a folder":                 {Config{URL: "nats://nats", TokenFile: t.TempDir()}, []string{"--nats-token-file", "not a regular file"}},
		"CA that is none":          {Config{URL: "nats://nats", CAFile: garbage}, []string{"--nats-ca", "no PEM certificate"}},
		"creds that are none":      {Config{URL: "nats://nats", CredsFile: garbage}, []string{"--nats-creds", "no user JWT"}},
		"key pair that is none":    {Config{URL: "nats://nats", CertFile: garbage, KeyFile: garbage}, []string{"--nats-cert and --nats-key"}},
		"several faults, all told": {Config{URL: "http://nats", User: "me", Domain: "*"}, []string{"--nats-url", "--nats-user", "--nats-domain"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.cfg.Validate()
			if len(tc.want) == 0 && err != nil {
				t.Fatalf("got %v, want no error", err)
			}
			if len(tc.want) > 0 && err == nil {
				t.Fatalf("got no error, want one with %q", tc.want)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not hold %q", err, part)
				}
			}
			wantNoSecret(t, err)
		})
	}
}

func TestConfigStringHidesCredentials(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"nats://nats:4222":                        "nats://nats:4222",
		"nats://me:" + marker + "@nats:4222":      "nats://xxxxx@nats:4222",
		"nats://" + marker + "@nats:4222":         "nats://xxxxx@nats:4222",
		marker + "@nats:4222":                     "xxxxx@nats:4222",
		"nats://me:a/b@" + marker + "@nats:4222":  "nats://xxxxx@nats:4222",
		"nats://me:" + marker + ",abc@nats:4222":  "xxxxx",
		"nats://me:1,2," + marker + "@nats:4222":  "xxxxx",
		"nats://a, tls://x:" + marker + "@b:4222": "nats://a,tls://xxxxx@b:4222",
	} {
		if got := (Config{URL: raw}).String(); got != want {
			t.Errorf("String of %q is %q, want %q", raw, got, want)
		}
	}
}

func TestGetRefusesAContradiction(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.Get(Config{URL: "nats://me:a/" + marker + "@nats"})
	if err == nil {
		t.Fatal("Get accepted an unreadable URL")
	}
	wantNoSecret(t, err)
	b.Close()
	if _, err := b.Get(Config{URL: "nats://nats"}); !errors.Is(err, ErrPoolClosed) {
		t.Fatalf("Get after Close returned %v, want ErrPoolClosed", err)
	}
}

func TestStableTextLeavesOutTheLocalPort(t *testing.T) {
	t.Parallel()
	err := &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer"),
		Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 54321}, Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4222}}
	if got, want := stableText(err), "read tcp 127.0.0.1:4222: connection reset by peer"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	dns := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Name: "nats", Server: "10.0.0.10:53", Err: "read udp 10.0.0.5:33333->10.0.0.10:53: i/o timeout"}}
	if got, want := stableText(dns), "looking up nats failed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
