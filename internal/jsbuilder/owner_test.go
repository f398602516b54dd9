package jsbuilder

import "testing"

func TestOwner(t *testing.T) {
	value := OwnerValue("3f1c", "payments", "api-audit")
	if value != "3f1c/payments/api-audit" {
		t.Fatalf("OwnerValue = %q", value)
	}
	uid, namespace, name, ok := ParseOwner(value)
	if !ok || uid != "3f1c" || namespace != "payments" || name != "api-audit" {
		t.Fatalf("ParseOwner(%q) = %q, %q, %q, %v", value, uid, namespace, name, ok)
	}
	for _, bad := range []string{"", "a", "a/b", "a/b/c/d", "/b/c", "a//c", "a/b/", "//"} {
		if uid, namespace, name, ok := ParseOwner(bad); ok || uid != "" || namespace != "" || name != "" {
			t.Errorf("ParseOwner(%q) = %q, %q, %q, %v, want it refused", bad, uid, namespace, name, ok)
		}
	}
}
