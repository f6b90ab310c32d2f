module github.com/taubyte/taubyte/substrate/guest

go 1.24
