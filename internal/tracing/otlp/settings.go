package otlp

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
)

// The environment variables that the SDK does not read itself, or not as the specification asks for.
const (
	envDisabled       = "OTEL_SDK_DISABLED"
	envExporter       = "OTEL_TRACES_EXPORTER"
	envEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	envProtocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	envTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	envSampler        = "OTEL_TRACES_SAMPLER"
	envSamplerArg     = "OTEL_TRACES_SAMPLER_ARG"
)

const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// settings are what decides whether and how spans are sent.
type settings struct {
	// endpoint is the URL of the receiver, without what could be a credential. It is empty where nothing is to be sent.
	endpoint string
	protocol string
	// ignored names what is set and cannot be used.
	ignored []string
}

// fromEnvironment reads the settings. The error says why nothing can be sent although it should be; it never repeats a value
// that may hold a credential.
func fromEnvironment() (settings, error) {
	if strings.EqualFold(env(envDisabled), "true") {
		return settings{}, nil
	}
	variable := envTracesEndpoint
	if env(variable) == "" {
		variable = envEndpoint
	}
	endpoint := env(variable)
	if endpoint == "" {
		return settings{}, nil
	}
	s := settings{}
	if exporters := env(envExporter); exporters != "" {
		names := strings.FieldsFunc(exporters, func(r rune) bool { return r == ',' || r == ' ' })
		switch {
		case slices.Equal(names, []string{"none"}):
			return settings{}, nil
		case !slices.Equal(names, []string{"otlp"}):
			s.ignored = append(s.ignored, fmt.Sprintf("%s is %q: give otlp or none", envExporter, exporters))
		}
	}
	s.readProtocol()
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) {
		return settings{}, fmt.Errorf("%s is not a URL of a receiver: write it as http://host:4318 or https://host:4318", variable)
	}
	s.endpoint = u.Scheme + "://" + u.Host
	return s, nil
}

func (s *settings) readProtocol() {
	s.protocol = protocolHTTP
	variable := envTracesProtocol
	if env(variable) == "" {
		variable = envProtocol
	}
	switch protocol := env(variable); protocol {
	case "":
	case protocolGRPC, protocolHTTP:
		s.protocol = protocol
	default:
		s.ignored = append(s.ignored, fmt.Sprintf("%s is %q: give %s or %s", variable, protocol, protocolGRPC, protocolHTTP))
	}
}

// env is a variable's value. An empty one is as good as none.
func env(name string) string { return strings.TrimSpace(os.Getenv(name)) }

// dropEmpty removes variables that are empty, which the SDK takes for a value where the specification takes them for absent.
func dropEmpty(names ...string) {
	for _, name := range names {
		if value, set := os.LookupEnv(name); set && strings.TrimSpace(value) == "" {
			_ = os.Unsetenv(name)
		}
	}
}
