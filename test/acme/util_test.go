package acme_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

func lower(s string) string { return strings.ToLower(s) }

// issued counts the certificates that the server has issued, by its log.
func issued(n *network) int {
	return strings.Count(n.pebble.said.String(), "Issued certificate serial")
}

// record is the TXT record of DNS-01.
func record(domain, authorization string) (name, value string) {
	sum := sha256.Sum256([]byte(authorization))
	return "_acme-challenge." + domain, base64.RawURLEncoding.EncodeToString(sum[:])
}
