package migrate

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

func fullEntry() auditstore.Entry {
	return auditstore.Entry{
		ID: "id-1", Timestamp: time.Date(2026, time.January, 2, 3, 4, 5, 6, time.UTC), User: "alice", Roles: []string{"operator", "admin"},
		Method: "GET", Path: "/node/1", OperationID: "GET_node", SourceIP: "10.0.0.1", ResponseCode: 200, DurationMs: 17,
		TraceID: "0af7651916cd43dd8448eb211c80319c",
	}
}

// isEntry is what plainEntry must never contradict.
func isEntry(value []byte, id string) bool {
	var entry auditstore.Entry
	return json.Unmarshal(value, &entry) == nil && entry.ID == id
}

func TestPlainEntryKnowsWhatEncodersWrite(t *testing.T) {
	full := fullEntry()
	fields := reflect.ValueOf(full)
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("the field %s is not set: set it above, and see whether plainEntry knows it", fields.Type().Field(i).Name)
		}
	}
	compact, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(full, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	empty, err := json.Marshal(auditstore.Entry{ID: full.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{
		string(compact), string(indented), string(empty),
		`{"id":"id-1"}`, ` { "id" : "id-1" , "roles" : [ ] , "response_code" : -1 } `, `{"id":"x","user":"Zoë","id":"id-1"}`,
	} {
		if !plainEntry([]byte(value), full.ID) || !isEntry([]byte(value), full.ID) {
			t.Errorf("%s: plainEntry says %v, json %v", value, plainEntry([]byte(value), full.ID), isEntry([]byte(value), full.ID))
		}
	}
}

func TestPlainEntryLeavesTheRestToJSON(t *testing.T) {
	for _, value := range []string{
		``, ` `, `{`, `{}`, `null`, `[]`, `"id-1"`, `{"id":"id-1"`, `{"id":"id-1",}`, `{"id":"id-1"}}`, `{"id":"id-1"} x`, `{"id":"id-1" "user":"a"}`,
		`{"id":"id-2"}`, `{"id":"id-1","id":"id-2"}`, `{"id":null}`, `{"id":5}`, `{"id":"id-1","user":5}`, `{"id":"id-1","user":"a` + "\n" + `"}`,
		`{"id":"id-1","user":"\u0061"}`, `{"id":"id\u002d1"}`, `{"id":"id-1","extra":1}`, `{"ID":"id-1"}`, `{"id":"id-1","roles":"a"}`, `{"id":"id-1","roles":["a",]}`,
		`{"id":"id-1","roles":[1]}`, `{"id":"id-1","roles":["a"`, `{"id":"id-1","response_code":"200"}`, `{"id":"id-1","response_code":01}`, `{"id":"id-1","response_code":- 1}`,
		`{"id":"id-1","response_code":1.5}`, `{"id":"id-1","response_code":1e3}`, `{"id":"id-1","duration_ms":99999999999999999999}`, `{"id":"id-1","response_code":}`,
		`{"id":"id-1","timestamp":"yesterday"}`, `{"id":"id-1","timestamp":5}`, `{"id":"id-1","timestamp":"2026-01-02 03:04:05Z"}`, `{"id":"id-1","roles":nul}`, `{"id":"id-1","roles":nullx}`,
	} {
		if plainEntry([]byte(value), "id-1") {
			t.Errorf("%s: plainEntry takes it for an entry as encoders write it (json: %v)", value, isEntry([]byte(value), "id-1"))
		}
	}
}

// TestPlainEntryNeverContradictsJSON damages an entry at random: what plainEntry takes, json.Unmarshal must take as well.
func TestPlainEntryNeverContradictsJSON(t *testing.T) {
	value, err := json.Marshal(fullEntry())
	if err != nil {
		t.Fatal(err)
	}
	const alphabet = "{}[]\",:\\ \n\x00-+.eE0159aiznultrfs\xff\xc3"
	random := rand.New(rand.NewPCG(1, 2))
	taken := 0
	for range 200_000 {
		damaged := append([]byte(nil), value...)
		for range 1 + random.IntN(3) {
			at := random.IntN(len(damaged))
			switch c := alphabet[random.IntN(len(alphabet))]; random.IntN(3) {
			case 0:
				damaged[at] = c
			case 1:
				damaged = append(damaged[:at], damaged[at+1:]...)
			default:
				damaged = append(damaged[:at], append([]byte{c}, damaged[at:]...)...)
			}
		}
		if !plainEntry(damaged, "id-1") {
			continue
		}
		taken++
		if !isEntry(damaged, "id-1") {
			t.Fatalf("plainEntry takes %q, json.Unmarshal does not", damaged)
		}
	}
	if taken == 0 {
		t.Error("none of the damaged values was taken: nothing was compared")
	}
}
