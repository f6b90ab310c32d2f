//go:build wasip1

package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/secret"
)

func init() {
	// What a function sees of TOKEN and MODE, by both ways. It prints the token.
	families["secrets"] = func(w http.ResponseWriter, _ *http.Request) {
		token, err := secret.Get("TOKEN")
		if errors.Is(err, errno.KeystoreNotFound) {
			token, err = "none", nil
		}
		check("secret", true, err)
		_, err = secret.Get("MODE")
		check("a variable is no secret", errors.Is(err, errno.KeystoreNotFound), nil)
		fmt.Println("the token is", os.Getenv("TOKEN"), "in Go")
		fmt.Fprintf(os.Stderr, "TOKEN=%s", token)
		fmt.Fprintf(w, "%s %s %s", os.Getenv("TOKEN"), token, os.Getenv("MODE"))
	}
}
