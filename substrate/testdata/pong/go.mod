module pong

go 1.24

require github.com/taubyte/taubyte/substrate/guest v0.0.0

replace github.com/taubyte/taubyte/substrate/guest => ../../guest
