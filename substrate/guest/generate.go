package guest

//go:generate go run ./internal/gen
