package auditgrpc

import (
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// streamMetadata lets a stream take metadata as a transport stream does.
type streamMetadata struct {
	grpc.ServerStream
	method string
}

// Method is the full method.
func (s streamMetadata) Method() string { return s.method }

// SetTrailer is the stream's.
func (s streamMetadata) SetTrailer(md metadata.MD) error {
	s.ServerStream.SetTrailer(md)
	return nil
}

// sendable returns the error with which a server's stream refuses metadata. The rules are gRPC's own, which it does not export, and
// does not apply to unary calls.
func (h *hold) sendable(md metadata.MD) error {
	if h.unary {
		return nil
	}
	for key, values := range md {
		if !keyable(key) {
			return status.Errorf(codes.Internal, "header key %q is empty or has characters that are not in [0-9a-z-_.]", key)
		}
		if strings.HasSuffix(key, "-bin") {
			continue // is sent as base64
		}
		for _, value := range values {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
				return status.Errorf(codes.Internal, "header key %q has a value with characters that are not printable ASCII", key)
			}
		}
	}
	return nil
}

func keyable(key string) bool {
	if strings.HasPrefix(key, ":") {
		return true // is not sent
	}
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	})
}
