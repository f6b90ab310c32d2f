package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/taubyte/taubyte/internal/rpc"
)

// An Endpoint serves a path, and knows the types of what it reads and answers.
type Endpoint struct {
	serve   func(http.ResponseWriter, *http.Request, rpc.Codes)
	reads   *content
	answers []content
}

// content is a body.
type content struct {
	status int    // of an answer
	media  string // "": there is none
	typ    reflect.Type
	text   string
}

const (
	mediaJSON  = "application/json"
	mediaLines = "application/x-ndjson"
)

// Answer serves what a function returns.
func Answer[Out any](do func(*http.Request) (Out, error)) Endpoint {
	return Endpoint{
		answers: []content{jsonOf[Out]()},
		serve: func(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
			out, err := do(r)
			reply(w, out, err, codes)
		},
	}
}

// Act serves what has no answer but that it is done.
func Act(do func(*http.Request) error) Endpoint {
	return Endpoint{
		answers: []content{{status: http.StatusNoContent}},
		serve: func(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
			rpc.Reply(w, nil, do(r), codes)
		},
	}
}

// Call is Answer for a function that reads a body of JSON, of at most limit bytes.
func Call[In, Out any](limit int64, do func(*http.Request, In) (Out, error)) Endpoint {
	in := jsonOf[In]()
	return Endpoint{
		reads: &in, answers: []content{jsonOf[Out]()},
		serve: func(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
			var in In
			var out Out
			err := rpc.Decode(w, r, limit, &in)
			if err == nil {
				out, err = do(r, in)
			}
			reply(w, out, err, codes)
		},
	}
}

// Take is Act for a function that reads a body of JSON, of at most limit bytes.
func Take[In any](limit int64, do func(*http.Request, In) error) Endpoint {
	in := jsonOf[In]()
	return Endpoint{
		reads: &in, answers: []content{{status: http.StatusNoContent}},
		serve: func(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
			var in In
			err := rpc.Decode(w, r, limit, &in)
			if err == nil {
				err = do(r, in)
			}
			rpc.Reply(w, nil, err, codes)
		},
	}
}

// Follow serves values as they come, a line of JSON each, until the caller leaves; an
// empty line shows now and then that the node lives. A function that has goroutines ends
// them with its context, and closes the channel then.
func Follow[T any](start func(*http.Request) (<-chan T, error)) Endpoint {
	return Serve(func(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
		ctx, cancel := context.WithCancel(r.Context())
		values, err := start(r.WithContext(ctx))
		if err != nil {
			cancel()
			rpc.WriteError(w, err, codes)
			return
		}
		defer func() {
			cancel()
			for range values { // until it has ended
			}
		}()
		if stream, err := rpc.NewStream(w); err == nil {
			_ = rpc.Follow(stream, values, rpc.Beat)
		}
	}).Lines(*new(T))
}

// Serve is for everything else: what it reads and answers is said by the methods of the
// Endpoint.
func Serve(serve func(http.ResponseWriter, *http.Request, rpc.Codes)) Endpoint {
	return Endpoint{serve: serve}
}

// Lines adds an answer of values of v's type, a line of JSON each.
func (e Endpoint) Lines(v any) Endpoint {
	return e.answer(content{http.StatusOK, mediaLines, reflect.TypeOf(v), "A value on each line, as they come. Empty lines show that the node lives."})
}

// Bytes adds an answer of another kind than JSON.
func (e Endpoint) Bytes(media, text string) Endpoint {
	return e.answer(content{http.StatusOK, media, nil, text})
}

// Empty adds an answer without a body.
func (e Endpoint) Empty(text string) Endpoint {
	return e.answer(content{http.StatusNoContent, "", nil, text})
}

func (e Endpoint) answer(c content) Endpoint {
	e.answers = append(e.answers[:len(e.answers):len(e.answers)], c)
	return e
}

// Reads says that the request's body is of another kind than JSON.
func (e Endpoint) Reads(media, text string) Endpoint {
	e.reads = &content{media: media, text: text}
	return e
}

func jsonOf[T any]() content {
	return content{http.StatusOK, mediaJSON, reflect.TypeFor[T](), ""}
}

// reply answers with out. An empty list is one, and not null.
func reply[Out any](w http.ResponseWriter, out Out, err error, codes rpc.Codes) {
	if v := reflect.ValueOf(&out).Elem(); err == nil {
		switch {
		case v.Kind() == reflect.Slice && v.IsNil():
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		case v.Kind() == reflect.Map && v.IsNil():
			v.Set(reflect.MakeMap(v.Type()))
		}
	}
	rpc.Reply(w, out, err, codes)
}
