// Package examples holds programs and projects to copy: embed, registry and
// topology are programs, hello, chat and notes are projects. Each is run by a test.
package examples
