package auditstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// OpenOption changes what Open does. Options that contradict each other are refused with ErrInvalidConfig.
type OpenOption func(*openSettings)

// openSettings is what the options ask for.
type openSettings struct {
	sources []string
	find    func() (*binding, error)
	name    string
	log     *slog.Logger
	nats    []nats.Option
	errs    []error
}

// FromDirectory opens the binding in the directory.
func FromDirectory(dir string) OpenOption {
	return fromSource(fmt.Sprintf("FromDirectory(%q)", dir), dir != "", func() (*binding, error) { return directoryBinding(dir) })
}

// FromBinding opens the binding of the name in $SERVICE_BINDING_ROOT.
func FromBinding(name string) OpenOption {
	return fromSource(fmt.Sprintf("FromBinding(%q)", name), name != "", func() (*binding, error) { return rootBinding(name) })
}

// FromEnvironment opens the binding that the variables $AUDITSTORE_URI and so on describe.
func FromEnvironment() OpenOption {
	return fromSource("FromEnvironment()", true, environmentBinding)
}

func fromSource(what string, named bool, find func() (*binding, error)) OpenOption {
	return func(s *openSettings) {
		if !named {
			s.errs = append(s.errs, fmt.Errorf("%s names nothing: give a name, or leave the option out", what))
		}
		s.sources, s.find = append(s.sources, what), find
	}
}

// WithClientName names the connection, as `nats server report connections` shows it. It is "auditstore" otherwise; the name of
// the service is better.
func WithClientName(name string) OpenOption {
	return func(s *openSettings) {
		if name == "" {
			s.errs = append(s.errs, errors.New("WithClientName names nothing: give the name of the service, or leave the option out"))
		}
		s.name = name
	}
}

// WithLogger logs what becomes of the connection there, and not to slog.Default(). A reason is logged once and not at each try. To
// log nothing give it slog.New(slog.DiscardHandler).
func WithLogger(log *slog.Logger) OpenOption {
	return func(s *openSettings) {
		if log == nil {
			s.errs = append(s.errs, errors.New("WithLogger has no logger: give one, or leave the option out"))
		}
		s.log = log
	}
}

// WithNATSOptions adds options of nats.go: time-outs, an inbox prefix, a dialer, a proxy, TLS settings, callbacks, which must not
// block. Servers, credentials and certificates belong into the binding, and options for them are refused; so are those that
// would end the reconnecting or queue writes during an outage.
func WithNATSOptions(options ...nats.Option) OpenOption {
	return func(s *openSettings) { s.nats = append(s.nats, options...) }
}

func newOpenSettings(options []OpenOption) (*openSettings, *binding, error) {
	s := &openSettings{find: anyBinding, name: "auditstore", log: slog.Default()}
	for _, option := range options {
		if option != nil {
			option(s)
		}
	}
	if len(s.sources) > 1 {
		s.errs = append(s.errs, fmt.Errorf("%s contradict each other: keep one of them", strings.Join(s.sources, " and ")))
	}
	_, optionErr := s.natsOptions()
	if err := errors.Join(append(s.errs, optionErr)...); err != nil {
		return nil, nil, err
	}
	b, err := s.find()
	if err != nil {
		return nil, nil, err
	}
	return s, b, b.check()
}

const (
	dialTimeout     = 3 * time.Second
	reconnectWait   = time.Second
	reconnectJitter = time.Second
	// A peer that vanished without closing the connection is noticed after pingInterval * (maxPingsOut + 1).
	pingInterval = 10 * time.Second
	maxPingsOut  = 2
)

// natsOptions returns the caller's options on top of the defaults, and refuses what Open has to decide.
func (s *openSettings) natsOptions() (nats.Options, error) {
	o := nats.GetDefaultOptions()
	o.Name = s.name
	o.Timeout = dialTimeout
	o.ReconnectWait, o.ReconnectJitter, o.ReconnectJitterTLS = reconnectWait, reconnectJitter, reconnectJitter
	o.PingInterval, o.MaxPingsOut = pingInterval, maxPingsOut
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} // also used when it is the server that asks for TLS
	unchanged := o
	for _, option := range s.nats {
		if option == nil {
			continue
		}
		if err := option(&o); err != nil {
			return o, fmt.Errorf("WithNATSOptions: %w", err)
		}
	}
	var errs []error
	for _, conflict := range []struct {
		found bool
		what  string
	}{
		{o.Url != "" || len(o.Servers) > 0, "names servers: put them into the binding's uri"},
		{o.User != "" || o.Password != "" || o.Token != "" || o.Nkey != "" || o.UserInfo != nil || o.TokenHandler != nil ||
			o.UserJWT != nil || o.SignatureCB != nil, "sets credentials: put them into the binding, where they are followed"},
		{o.RootCAsCB != nil || o.TLSCertCB != nil, "sets certificates: put them into the binding, where they are followed"},
		{!o.AllowReconnect || o.MaxReconnect >= 0 && o.MaxReconnect != unchanged.MaxReconnect,
			"limits reconnecting: a store reconnects for ever, leave it out"},
		{o.ReconnectBufSize >= 0 && o.ReconnectBufSize != unchanged.ReconnectBufSize,
			"sets a reconnect buffer: a store queues nothing during an outage, leave it out"},
	} {
		if conflict.found {
			errs = append(errs, errors.New("WithNATSOptions "+conflict.what))
		}
	}
	return o, errors.Join(errs...)
}
