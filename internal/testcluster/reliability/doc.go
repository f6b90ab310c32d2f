// Package reliability holds the tests that show what docs/reliability.md promises: a
// cluster with two of everything, under load, with a fault.
//
//	go test ./internal/testcluster/reliability -v
//	go test ./internal/testcluster/reliability -v -set long -timeout 90m
//
// With -report FILE the figures are appended to a file as rows of a table.
package reliability
