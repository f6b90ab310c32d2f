package event

// PathValue is what a wildcard of the path stands for that the configuration has for the
// function: of "/items/{id}", PathValue("id"). It is decoded; a slash that was sent as %2F
// is one.
func (e HTTP) PathValue(name string) string { return e.Header(":path/" + name) }

// Pattern is the path with wildcards that the request was routed by, as the configuration
// has it. It is empty where that path has none.
func (e HTTP) Pattern() string { return e.Header(":pattern") }
