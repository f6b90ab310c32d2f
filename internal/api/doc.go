// Package api is how services offer their methods over HTTP: a Mux whose paths are
// described where they are registered, by Go types and a few words, and the OpenAPI 3.1
// document that follows from the descriptions.
//
//	mux := api.New(nil)
//	mux.Handle("GET /projects/{id}", api.Operation{
//		Summary: "Returns a project.",
//		Path:    api.Texts{"id": "The project's ID."},
//		Rights:  api.Project(taubyte.VerbRead, taubyte.RoleAuth),
//	}, api.Answer(func(r *http.Request) (Project, error) {
//		return s.Project(r.Context(), taubyte.ProjectID(r.PathValue("id")))
//	}))
//
// What a path reads and answers is taken from the type of the function that serves it, so
// that the description can't say anything else. All answers are alike: JSON, with
// "Cache-Control: no-store"; errors as package rpc writes them, those of unknown paths
// included.
package api
