package jsbuilder

import (
	"errors"
	"fmt"
	"strings"
)

// longestName is the longest name of a stream that a server accepts, and what the CRD allows for a subject.
const longestName = 255

// The CRD refuses bad names first. They are checked here again because a wrong one would not fail, it would capture
// other subjects: "audit.*" is a fine subject to NATS.

func checkStreamName(name string) error {
	if !printable(name) || strings.ContainsAny(name, `.*>/\`) {
		return fmt.Errorf(`stream %.64q is not a NATS stream name: give 1 to 255 printable ASCII characters, no spaces, none of . * > / \`, name)
	}
	if hasAnyPrefix(name, "$", "KV_", "OBJ_") {
		return fmt.Errorf("stream %.64q belongs to JetStream itself: give a name that does not begin with $, KV_ or OBJ_", name)
	}
	return nil
}

func checkSubject(subject string) error {
	err := errors.New("give literal tokens separated by single dots, such as audit or payments.audit")
	if !printable(subject) || strings.ContainsAny(subject, "*>") {
		return fmt.Errorf("subject %.64q is not a literal NATS subject: %w", subject, err)
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" {
			return fmt.Errorf("subject %.64q has an empty token: %w", subject, err)
		}
	}
	if strings.HasPrefix(subject, "$") || subject == "_INBOX" || strings.HasPrefix(subject, "_INBOX.") {
		return fmt.Errorf("subject %.64q belongs to NATS itself: give one that does not begin with $ or _INBOX", subject)
	}
	return nil
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

func printable(s string) bool {
	if s == "" || len(s) > longestName {
		return false
	}
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}
