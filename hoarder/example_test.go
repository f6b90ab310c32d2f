package hoarder_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
)

// One node keeps a database and a storage of a project's main branch.
func Example() {
	ctx := context.Background()
	store := taubyte.MemoryDatastore()
	host, err := taubyte.NewHost(ctx, store)
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	h, err := hoarder.New(ctx, host, store)
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()

	at := hoarder.Instance{Project: "QmProject", Branch: "main", Name: "notes"}
	notes, err := h.Database(ctx, at, hoarder.DatabaseSpec{Size: 1 << 20})
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range []string{"2026/b", "2026/a", "2025/z"} {
		if err := notes.Put(ctx, key, []byte("note "+key)); err != nil {
			log.Fatal(err)
		}
	}
	keys, err := notes.List(ctx, "2026/")
	fmt.Println(keys, err)

	photos, err := h.Storage(ctx, at, hoarder.StorageSpec{Versioning: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"a cat", "a better cat"} {
		if _, err := photos.Add(ctx, "cat.txt", strings.NewReader(text), false); err != nil {
			log.Fatal(err)
		}
	}
	r, file, err := photos.Open(ctx, "cat.txt", 0)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	fmt.Printf("version %d: %s %v\n", file.Version, text, err)
	// Output:
	// [2026/a 2026/b] <nil>
	// version 2: a better cat <nil>
}
