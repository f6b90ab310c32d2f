package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
)

// json prints a result for a script: one line.
func (inv *invocation) json(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(inv.out, "%s\n", line)
	return err
}

// table prints rows for a person, aligned, under a heading.
func (inv *invocation) table(heading []string, rows [][]string) error {
	w := tabwriter.NewWriter(inv.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heading, "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
