package jsbuilder

import "strings"

const (
	// MetadataOwner is the key in a stream's metadata that says which AuditStream owns the stream. See OwnerValue.
	MetadataOwner = "audit.osapi.io/owner"

	// MetadataMigrationPrefix, followed by the name of a bucket, is the key of that bucket's checkpoint. It belongs to
	// internal/migrate: Build never sets it, Compare does not look at it, Merge keeps it.
	MetadataMigrationPrefix = "audit.osapi.io/migration."

	// metadataServerPrefix begins the keys that the server writes by itself into every answer.
	metadataServerPrefix = "_nats."
)

// OwnerValue is the value of MetadataOwner: <cluster UID>/<namespace>/<name>. An AuditStream that is deleted and made
// again under its name has the same value, and so gets its stream back.
func OwnerValue(clusterUID, namespace, name string) string {
	return clusterUID + "/" + namespace + "/" + name
}

// ParseOwner takes a value of MetadataOwner apart. It returns false for a value that OwnerValue cannot have made.
func ParseOwner(value string) (clusterUID, namespace, name string, ok bool) {
	parts := strings.Split(value, "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}
