// Command pack writes the source of substrate/guest into guest.txt, one file
// after the other, each under a line "-- name --". Run it by go generate in the
// package above.
package main

import (
	"log"
	"os"

	"github.com/taubyte/taubyte/internal/guestsdk/archive"
)

func main() {
	files, err := archive.Collect(os.DirFS("../../substrate/guest"))
	if err != nil {
		log.Fatal(err)
	}
	text, err := archive.Format(files)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("guest.txt", text, 0o644); err != nil {
		log.Fatal(err)
	}
}
