package jsbuilder

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// The grammar of maxAge is the one of the CRD, to the character: a value that the API server lets through must parse
// here, and the other way round. test/apivalidation holds both against one table.
var (
	goDuration = regexp.MustCompile(`^([0-9]{1,6}([.][0-9]{1,9})?h)?([0-9]{1,7}([.][0-9]{1,9})?m)?` +
		`([0-9]{1,9}([.][0-9]{1,9})?s)?([0-9]{1,9}([.][0-9]{1,9})?ms)?([0-9]{1,9}([.][0-9]{1,9})?us)?([0-9]{1,9}ns)?$`)
	wholeUnits = regexp.MustCompile(`^([0-9]{1,6}d|[0-9]{1,5}w|[0-9]{1,3}y)$`)
)

const (
	day  = 24 * time.Hour
	week = 7 * day
	year = 365 * day

	// shortestMaxAge is the shortest max_age that a server accepts.
	shortestMaxAge = 100 * time.Millisecond
	// longestMaxAge is the largest whole number of years that a time.Duration holds.
	longestMaxAge = 292 * year
	// longestMaxAgeText is the CRD's maxLength of the field.
	longestMaxAgeText = 64
)

// ParseMaxAge reads spec.maxAge: a Go duration with its units in order (720h, 1h30m), or a whole number of days, weeks
// or years (30d, 4w, 7y; a year is 365 days). Empty is 0, which keeps entries for ever. Zero itself, a negative value,
// one below 100ms and one beyond 292y are refused.
func ParseMaxAge(s string) (time.Duration, error) {
	switch {
	case s == "":
		return 0, nil
	case len(s) <= longestMaxAgeText && wholeUnits.MatchString(s):
		return parseWholeUnits(s)
	case len(s) <= longestMaxAgeText && goDuration.MatchString(s):
		return parseGoDuration(s)
	default:
		return 0, fmt.Errorf("maxAge %.64q is not a duration: give a Go duration such as 720h or 1h30m (up to 999999h), "+
			"or a whole number of days, weeks or years such as 30d, 4w or 7y", s)
	}
}

func parseGoDuration(s string) (time.Duration, error) {
	age, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("maxAge %q is not a duration: give one such as 720h or 30d: %w", s, err)
	}
	if age < shortestMaxAge {
		return 0, fmt.Errorf("maxAge %q is too short: give at least 100ms, the shortest that NATS keeps a message, "+
			"or leave it out to keep entries for ever", s)
	}
	return age, nil
}

func parseWholeUnits(s string) (time.Duration, error) {
	unit := map[byte]time.Duration{'d': day, 'w': week, 'y': year}[s[len(s)-1]]
	n, err := strconv.ParseInt(s[:len(s)-1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("maxAge %q is not a whole number of days, weeks or years: give one such as 30d: %w", s, err)
	}
	// Compared before it is multiplied: 999999d would overflow a time.Duration.
	if n < 1 || n > int64(longestMaxAge/unit) {
		return 0, fmt.Errorf("maxAge %q is out of range: give at least 1d and at most 292y (106580d, 15225w), "+
			"or leave it out to keep entries for ever", s)
	}
	return time.Duration(n) * unit, nil
}
