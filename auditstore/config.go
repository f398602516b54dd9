package auditstore

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go/jetstream"
)

func checkConfig(js jetstream.JetStream, cfg Config) error {
	switch {
	case js == nil:
		return fmt.Errorf("%w: the JetStream handle is nil", ErrInvalidConfig)
	case cfg.Stream == "" || strings.ContainsAny(cfg.Stream, ">*. /\\\t\r\n"):
		return fmt.Errorf("%w: Stream is %q: give the name of a stream, without dots, wildcards, slashes and spaces",
			ErrInvalidConfig, cfg.Stream)
	case !literalSubject(cfg.Subject):
		return fmt.Errorf("%w: Subject is %q: give literal tokens divided by dots, like \"audit\" or \"audit.api\", without wildcards",
			ErrInvalidConfig, cfg.Subject)
	}
	return nil
}

func literalSubject(subject string) bool {
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || strings.ContainsAny(token, "*>") ||
			strings.ContainsFunc(token, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			return false
		}
	}
	return true
}

// checkStream says what has to change before the stream can hold a trail under subject.
func checkStream(cfg jetstream.StreamConfig, subject string) error {
	captured := false
	for _, pattern := range cfg.Subjects {
		switch {
		case pattern == subject+".>" || pattern == subject+".*":
			captured = true
		case pattern == subject || strings.HasPrefix(pattern, subject+".") || movedUnder(cfg.SubjectTransform, pattern, subject):
		default:
			return fmt.Errorf("%w: stream %q captures %q, which is outside %q: entries could not be told apart and counted; "+
				"give the trail a stream of its own, or correct Config.Subject", ErrNotReady, cfg.Name, pattern, subject+".>")
		}
	}
	switch {
	case !captured:
		return fmt.Errorf("%w: stream %q does not capture %q (it has %q): add it to the stream's subjects, or correct Config.Subject",
			ErrNotReady, cfg.Name, subject+".>", cfg.Subjects)
	case !cfg.AllowDirect:
		return fmt.Errorf("%w: stream %q does not allow direct gets: set allow_direct", ErrNotReady, cfg.Name)
	case cfg.NoAck:
		return fmt.Errorf("%w: stream %q does not acknowledge messages: clear no_ack", ErrNotReady, cfg.Name)
	}
	return checkKeeping(cfg, subject)
}

// checkKeeping says what has to change so that the stream keeps what it acknowledges, under the id, until its limits remove it.
func checkKeeping(cfg jetstream.StreamConfig, subject string) error {
	switch transform := cfg.SubjectTransform; {
	case cfg.Retention == jetstream.WorkQueuePolicy:
		return fmt.Errorf("%w: stream %q has the retention workqueue: entries would go once they are read; retention cannot be changed "+
			"from that, so give the trail a stream with the retention limits", ErrNotReady, cfg.Name)
	case cfg.Retention != jetstream.LimitsPolicy:
		return fmt.Errorf("%w: stream %q has the retention %s: entries would go once nobody waits for them; set retention to limits",
			ErrNotReady, cfg.Name, strings.ToLower(cfg.Retention.String()))
	case cfg.Sealed:
		return fmt.Errorf("%w: stream %q is sealed and takes no entry, for ever: give the trail another stream", ErrNotReady, cfg.Name)
	case transform != nil && (transform.Source == "" || overlap(transform.Source, subject+".>")):
		return fmt.Errorf("%w: stream %q has a subject_transform from %q to %q, which moves entries away from %q: restrict its source to "+
			"other subjects, or remove it", ErrNotReady, cfg.Name, transform.Source, transform.Destination, subject+".>")
	case cfg.MaxMsgsPerSubject > 0 && (cfg.Discard != jetstream.DiscardNew || !cfg.DiscardNewPerSubject):
		return fmt.Errorf("%w: stream %q has max_msgs_per_subject %d and removes the entry when more come under its id: set "+
			"max_msgs_per_subject to -1, or discard to new together with discard_new_per_subject", ErrNotReady, cfg.Name, cfg.MaxMsgsPerSubject)
	}
	return nil
}

// overlap says whether any subject matches both patterns.
func overlap(a, b string) bool {
	one, other := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(one), len(other)) {
		switch {
		case one[i] == ">" || other[i] == ">":
			return true
		case one[i] != other[i] && one[i] != "*" && other[i] != "*":
			return false
		}
	}
	return len(one) == len(other)
}

// movedUnder says whether the stream stores everything that it captures by the pattern under subject, as it does with the
// subjects of a key-value bucket that was handed over to it. One transform may serve several buckets.
func movedUnder(transform *jetstream.SubjectTransformConfig, pattern, subject string) bool {
	if transform == nil || !strings.HasPrefix(transform.Destination, subject+".") {
		return false
	}
	return transform.Source == "" || covers(transform.Source, pattern)
}

// covers says whether every subject that matches the pattern also matches the wider one.
func covers(wider, pattern string) bool {
	wide, narrow := strings.Split(wider, "."), strings.Split(pattern, ".")
	for i, token := range wide {
		switch {
		case i == len(narrow):
			return false
		case token == ">":
			return true
		case narrow[i] == ">", token != "*" && token != narrow[i]:
			return false
		}
	}
	return len(wide) == len(narrow)
}
