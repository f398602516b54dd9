package migrate

import (
	"bytes"
	"time"
)

// plainEntry says whether the value is certainly the JSON object of an entry with this id. It knows JSON as encoders usually
// write it, and takes a tenth of json.Unmarshal's time, which was the largest part of a copy. Of anything else, such as
// escapes, fractions and fields that an entry does not have, it says no, and json.Unmarshal is left to decide.
func plainEntry(value []byte, id string) bool {
	s := scanner{value}
	if !s.skip('{') {
		return false
	}
	found := false
	for {
		name, ok := s.text()
		if !ok || !s.skip(':') {
			return false
		}
		switch string(name) {
		case "id":
			var text []byte
			text, ok = s.text()
			found = string(text) == id // the last of several counts
		case "timestamp":
			ok = s.time()
		case "roles":
			ok = s.null() || s.texts()
		case "response_code", "duration_ms":
			ok = s.number()
		case "user", "method", "path", "operation_id", "source_ip", "trace_id":
			_, ok = s.text()
		default:
			return false
		}
		if !ok {
			return false
		}
		if s.skip('}') {
			s.space()
			return found && len(s.rest) == 0
		}
		if !s.skip(',') {
			return false
		}
	}
}

// scanner takes JSON tokens off the front of a text. What its methods refuse may still be JSON.
type scanner struct{ rest []byte }

func (s *scanner) space() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\t' || s.rest[0] == '\r') {
		s.rest = s.rest[1:]
	}
}

func (s *scanner) skip(c byte) bool {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// text takes a string without escapes, and returns what is between its quotes.
func (s *scanner) text() ([]byte, bool) {
	if !s.skip('"') {
		return nil, false
	}
	for i, c := range s.rest {
		switch {
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text, true
		case c < ' ' || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

func (s *scanner) texts() bool {
	if !s.skip('[') {
		return false
	}
	if s.skip(']') {
		return true
	}
	for {
		if _, ok := s.text(); !ok {
			return false
		}
		if s.skip(']') {
			return true
		}
		if !s.skip(',') {
			return false
		}
	}
}

func (s *scanner) time() bool {
	s.space()
	quoted := s.rest
	text, ok := s.text()
	var t time.Time
	return ok && t.UnmarshalJSON(quoted[:len(text)+2]) == nil
}

func (s *scanner) null() bool {
	s.space()
	rest, found := bytes.CutPrefix(s.rest, []byte("null"))
	s.rest = rest
	return found
}

// number takes an integer that fits any kind of int.
func (s *scanner) number() bool {
	s.skip('-')
	n := 0
	for n < len(s.rest) && '0' <= s.rest[n] && s.rest[n] <= '9' {
		n++
	}
	if n == 0 || n > 9 || n > 1 && s.rest[0] == '0' {
		return false
	}
	s.rest = s.rest[n:]
	return true
}
