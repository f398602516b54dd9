package auditstore

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

var plainTexts = []string{
	`{"id":"a","timestamp":"2026-01-02T03:04:05.123456789Z","user":"u","roles":["r","s"],"method":"GET","path":"/x","operation_id":"o",` +
		`"source_ip":"10.0.0.1","response_code":200,"duration_ms":-12,"trace_id":"t"}`,
	`{"id":"ä€😀","timestamp":"2026-01-02T03:04:05+01:00","roles":[],"response_code":0}`,
	`{"id":"a","roles":null}`,
	`{"id":"","roles":[""],"duration_ms":999999999}`,
}

var otherTexts = []string{
	` { "id" : "a" , "roles" : [ ] , "response_code" : 0 , "timestamp":"2026-01-02T03:04:05+01:00" } `, `{"user":"u","id":"a"}`,
	`{"id":"a","id":"b","roles":["x","y"],"roles":["z"]}`, `{"roles":["x","y"],"roles":[],"response_code":7}`, `{"user":"\u007f"}`,
	``, `{}`, `{`, `[]`, `null`, `"a"`, `{"id":"a"} x`, `{"id":"a",}`, `{"id":"a"`, `{"id":"a}`, `{"id":null}`, `{"id":1}`, `{"ID":"a"}`,
	`{"id":"\u0061"}`, `{"id":"a\"b"}`, "{\n\t\"id\":\"a\",\r\n\"roles\":null}", `{"id":"a` + "\n" + `"}`, `{"id":"` + "\xff" + `"}`, `{"response_code":1.0}`, `{"response_code":1e2}`,
	`{"response_code":01}`, `{"response_code":-}`, `{"response_code":- 1}`, `{"response_code":--1}`, `{"response_code":12345678901}`,
	`{"timestamp":"yesterday"}`, `{"timestamp":"2026-01-02T03:04:05,5Z"}`, `{"timestamp":"2026-01-02T3:04:05Z"}`, `{"timestamp":""}`,
	`{"roles":["a",]}`, `{"roles":["a" "b"]}`, `{"roles":[null]}`, `{"roles":nul}`, `{"roles":nullnull}`, `{"other":1}`, `{"id":"a","x":{}}`,
	`{"id" "a"}`, `{:"a"}`, `{"duration_ms":true}`, `{"duration_ms":"1"}`, `{"id":"a";"user":"b"}`,
}

func TestPlainEntryKnowsWhatEncodersWrite(t *testing.T) {
	data, err := json.Marshal(Entry{ID: NewID(), Timestamp: time.Now(), User: "Jürgen", Roles: []string{"a"}, DurationMs: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(plainTexts, string(data)) {
		if _, ok := plainEntry([]byte(text)); !ok {
			t.Errorf("left to json.Unmarshal: %s", text)
		}
		checkPlain(t, text)
	}
}

func TestPlainEntryAgreesWithJSON(t *testing.T) {
	for _, text := range append(plainTexts, otherTexts...) {
		checkPlain(t, text)
		for i := range text { // cut, and with another byte in each place
			checkPlain(t, text[:i])
			for _, c := range "\x00 \"\\{}[],:-019nz\xc3" {
				checkPlain(t, text[:i]+string(c)+text[i+1:])
				checkPlain(t, text[:i]+string(c)+text[i:])
			}
		}
	}
}

func FuzzPlainEntryAgreesWithJSON(f *testing.F) {
	for _, text := range append(plainTexts, otherTexts...) {
		f.Add(text)
	}
	f.Fuzz(checkPlain)
}

func checkPlain(t *testing.T, text string) {
	got, ok := plainEntry([]byte(text))
	if id, same := plainID([]byte(text)); same != ok || ok && string(id) != got.ID {
		t.Errorf("found the id %q (%t) in place of %q (%t): %q", id, same, got.ID, ok, text)
	}
	if !ok {
		return
	}
	var want Entry
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Errorf("took what json.Unmarshal refuses (%v): %q", err, text)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v in place of %+v: %q", got, want, text)
	}
}

func TestExportMarksAPlainBodyOfAnotherID(t *testing.T) {
	s, js, _ := open(t)
	mustWrite(t, s, "a")
	publish(t, js, "b", body("other", "eve"))
	var out strings.Builder
	n, err := s.Export(t.Context(), &out, ExportOptions{})
	wantIs(t, err, ErrCorrupt)
	if n != 1 || !strings.Contains(out.String(), `{"corrupt":{"sequence":2}}`) || strings.Contains(out.String(), "eve") {
		t.Errorf("exported %d entries: %s", n, out.String())
	}
}

func BenchmarkPlainEntry(b *testing.B) {
	data := []byte(strings.Replace(plainTexts[0], "/x", "/"+strings.Repeat("x", 150), 1))
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			plainEntry(data)
		}
	})
	b.Run("id", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			plainID(data)
		}
	})
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var entry Entry
			if err := json.Unmarshal(data, &entry); err != nil {
				b.Fatal(err)
			}
		}
	})
}
