// Package examples holds programs and projects to copy: embed, registry and
// topology are programs, hello is a project. Each is run by a test.
package examples
