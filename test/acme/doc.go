// Package acme has the tests of certificates against a real ACME server, Pebble of
// Let's Encrypt, run as a process of its own. It is a module so that the product's does
// not name what serves tests only.
package acme
