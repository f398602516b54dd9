package main

import (
	"strings"
	"testing"
)

func TestAnAllowedBreakNeedsAReason(t *testing.T) {
	allowed, err := parseAllowed("# All of it.\n\n# Nobody uses it.\ngo a: F: removed\ngo a: G: removed\n")
	if err != nil || strings.Join(allowed, ", ") != "go a: F: removed, go a: G: removed" {
		t.Errorf("read %q, %v", allowed, err)
	}
	for _, content := range []string{"go a: F: removed\n", "# Why.\n\ngo a: F: removed\n", "#\ngo a: F: removed\n"} {
		if _, err := parseAllowed(content); err == nil || !strings.Contains(err.Error(), "has no reason") {
			t.Errorf("of %q: %v", content, err)
		}
	}
}

func TestWhatIsNotAllowedFailsAndSoDoesWhatIsNotFound(t *testing.T) {
	found := []finding{{id: "go a: F: removed"}, {id: "go a: G: removed"}}
	if err := judge(found, []string{"go a: F: removed", "go a: G: removed"}); err != nil {
		t.Error(err)
	}
	err := judge(found, []string{"go a: F: removed", "go a: H: removed"})
	if err == nil {
		t.Fatal("judged compatible")
	}
	for _, want := range []string{"breaks users of the previous release: go a: G: removed", "remove it: go a: H: removed"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "go a: F") {
		t.Errorf("%v\nspeaks of what is allowed", err)
	}
}

func TestAFindingOfACRDIsNamedByItsPlaceAndContent(t *testing.T) {
	report := func(text string) []byte {
		return []byte(`{"crdValidation":[{"name":"scope"}],"sameVersionValidation":{"v1":{"^.spec.a":[{"name":"enum","errors":["` + text + `"]}]}}}` + "\nhelp")
	}
	ids := map[string]bool{}
	for _, text := range []string{"b was removed", "b \u00a0was removed", "c was removed"} {
		found, err := parseReport(report(text))
		if err != nil || len(found) != 1 || !strings.HasPrefix(found[0].id, "crd v1 .spec.a enum ") {
			t.Fatalf("of %q: %v, %v", text, found, err)
		}
		ids[found[0].id] = true
	}
	if len(ids) != 2 {
		t.Errorf("ids %v: want one for each content, whatever its spaces", ids)
	}
}

func TestAChangeOfAPackageIsNamedByItsPackage(t *testing.T) {
	found := parseChanges("auditstore", "Incompatible changes:\n- Store.Get: removed\n- Config: old is comparable, new is not\n")
	if len(found) != 2 || found[0].id != "go auditstore: Store.Get: removed" {
		t.Errorf("found %v", found)
	}
}
