// Package examples holds programs and projects to copy: embed, registry and
// topology are programs, hello and chat are projects. Each is run by a test.
package examples
