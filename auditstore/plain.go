package auditstore

import (
	"bytes"
	"encoding/binary"
	"time"
	"unicode/utf8"
)

// plainEntry decodes the JSON object of an entry, and says whether it could: then the entry is what json.Unmarshal makes of the
// same bytes, at a tenth of the cost. It knows what json.Marshal makes of an Entry, and some more. Of anything else, such as
// escapes, white space, fractions and fields in another order, it says no, and json.Unmarshal is left to decide.
func plainEntry(data []byte) (e Entry, ok bool) {
	if !plainBytes(data) {
		return e, false
	}
	s := plainScanner{data: data, text: string(data)} // all strings of the entry are parts of this one
	return e, s.object(&e)
}

// plainID is the id that plainEntry would find, without the rest. It allocates nothing.
func plainID(data []byte) (id []byte, ok bool) {
	if !plainBytes(data) {
		return nil, false
	}
	s := plainScanner{data: data}
	if !s.object(&Entry{}) {
		return nil, false
	}
	return data[s.id[0]:s.id[1]], true
}

// plainBytes says whether there are neither escapes nor control characters, which only white space and mistakes have, nor what is
// no UTF-8 and json.Unmarshal mends. Then every string goes on up to the next quote.
func plainBytes(data []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	rest := data
	for ; len(rest) >= 8; rest = rest[8:] {
		// Of a byte below a space, the high bit is set by the difference, and not by the byte.
		if word := binary.LittleEndian.Uint64(rest); (word-ones*' ')&^word&highs != 0 {
			return false
		}
	}
	for _, c := range rest {
		if c < ' ' {
			return false
		}
	}
	return bytes.IndexByte(data, '\\') < 0 && utf8.Valid(data)
}

// plainScanner goes through the JSON tokens of plain bytes. What its methods refuse may still be JSON. It moves an index, and not
// a slice, because writing pointers has a price while garbage is collected.
type plainScanner struct {
	data []byte
	at   int
	text string // data; empty where nobody wants to keep the strings
	id   [2]int // where the id begins and ends
}

// plainFields are the fields of an Entry in its order, which is the encoder's.
var plainFields = [...]string{`"id":`, `"timestamp":`, `"user":`, `"roles":`, `"method":`, `"path":`, `"operation_id":`, `"source_ip":`,
	`"response_code":`, `"duration_ms":`, `"trace_id":`}

// object takes an object with fields of an entry, up to the end.
func (s *plainScanner) object(e *Entry) bool {
	if !s.skip('{') {
		return false
	}
	for i, field := range plainFields {
		if !s.word(field) {
			continue // it may be left out
		}
		if !s.value(i, e) {
			return false
		}
		if s.skip('}') {
			return s.at == len(s.data)
		}
		if !s.skip(',') {
			return false
		}
	}
	return false
}

// value takes the value of the field with this number.
func (s *plainScanner) value(field int, e *Entry) (ok bool) {
	switch field {
	case 0:
		s.id[0], s.id[1], ok = s.quoted()
		e.ID = s.kept(s.id[0], s.id[1])
	case 1:
		e.Timestamp, ok = s.time()
	case 2:
		e.User, ok = s.string()
	case 3:
		e.Roles, ok = s.strings()
	case 4:
		e.Method, ok = s.string()
	case 5:
		e.Path, ok = s.string()
	case 6:
		e.OperationID, ok = s.string()
	case 7:
		e.SourceIP, ok = s.string()
	case 8:
		e.ResponseCode, ok = s.number()
	case 9:
		var n int
		n, ok = s.number()
		e.DurationMs = int64(n)
	case 10:
		e.TraceID, ok = s.string()
	}
	return ok
}

func (s *plainScanner) skip(c byte) bool {
	if s.at == len(s.data) || s.data[s.at] != c {
		return false
	}
	s.at++
	return true
}

func (s *plainScanner) word(word string) bool {
	found := bytes.HasPrefix(s.data[s.at:], []byte(word))
	if found {
		s.at += len(word)
	}
	return found
}

func (s *plainScanner) string() (string, bool) {
	begin, end, ok := s.quoted()
	return s.kept(begin, end), ok
}

// kept is a part of the text, and empty where nobody wants it.
func (s *plainScanner) kept(begin, end int) string {
	if s.text == "" {
		return ""
	}
	return s.text[begin:end]
}

// quoted takes a string, and returns where it begins and ends.
func (s *plainScanner) quoted() (begin, end int, ok bool) {
	if !s.skip('"') {
		return 0, 0, false
	}
	length := bytes.IndexByte(s.data[s.at:], '"')
	if length < 0 {
		return 0, 0, false
	}
	begin, end = s.at, s.at+length
	s.at = end + 1
	return begin, end, true
}

// strings takes null or a list of strings.
func (s *plainScanner) strings() (list []string, ok bool) {
	if s.word("null") {
		return nil, true
	}
	if !s.skip('[') {
		return nil, false
	}
	if s.skip(']') {
		return []string{}, true
	}
	for {
		kept, ok := s.string()
		if !ok {
			return nil, false
		}
		if s.text != "" {
			if list == nil {
				list = make([]string, 0, 2)
			}
			list = append(list, kept)
		}
		if s.skip(']') {
			return list, true
		}
		if !s.skip(',') {
			return nil, false
		}
	}
}

func (s *plainScanner) time() (t time.Time, ok bool) {
	begin, end, ok := s.quoted()
	return t, ok && t.UnmarshalText(s.data[begin:end]) == nil
}

// number takes an integer that fits any kind of int.
func (s *plainScanner) number() (n int, ok bool) {
	minus, begin := s.skip('-'), s.at
	for ; s.at < len(s.data) && '0' <= s.data[s.at] && s.data[s.at] <= '9'; s.at++ {
		if n = 10*n + int(s.data[s.at]-'0'); s.at-begin == 9 {
			return 0, false
		}
	}
	if digits := s.at - begin; digits == 0 || digits > 1 && s.data[begin] == '0' {
		return 0, false
	}
	if minus {
		n = -n
	}
	return n, true
}
