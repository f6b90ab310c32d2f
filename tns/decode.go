package tns

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"unicode/utf8"
)

// A node that starts reads the configuration of every project at once, and one of
// 10,000 projects with a hundred functions each takes most of the start. What is read
// was written by this package, so it is read by a decoder for just that: the types of
// a Change, in the JSON that encoding/json writes. It gives up at anything else, and
// encoding/json begins anew: both give the same, which is fuzzed.

// unmarshal is json.Unmarshal into an empty Deployment or Change.
func unmarshal[T Deployment | Change](raw []byte) (*T, error) {
	v := new(T)
	r := reader{raw: raw}
	err := shapes()[reflect.TypeFor[T]()](&r, reflect.ValueOf(v).Elem())
	if err == nil {
		if r.space(); r.at == len(r.raw) {
			return v, nil
		}
	}
	v = new(T)
	return v, json.Unmarshal(raw, v)
}

// errSlow hands over to encoding/json.
var errSlow = errors.New("not as it is written here")

type reader struct {
	raw []byte
	at  int
}

// A shape reads one type.
type shape func(*reader, reflect.Value) error

var shapes = sync.OnceValue(func() map[reflect.Type]shape {
	all := map[reflect.Type]shape{}
	for _, t := range []reflect.Type{reflect.TypeFor[Deployment](), reflect.TypeFor[Change]()} {
		all[t] = shapeOf(t, all)
	}
	return all
})

func slow(*reader, reflect.Value) error { return errSlow }

func shapeOf(t reflect.Type, known map[reflect.Type]shape) shape {
	if s, ok := known[t]; ok {
		return s
	}
	s := newShape(t, known)
	known[t] = s
	return s
}

func newShape(t reflect.Type, known map[reflect.Type]shape) shape {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return func(r *reader, v reflect.Value) error {
			raw, err := r.value()
			if err != nil {
				return err
			}
			return v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(raw)
		}
	}
	switch t.Kind() {
	case reflect.String:
		return func(r *reader, v reflect.Value) error {
			s, err := r.text()
			if err == nil {
				v.SetString(s)
			}
			return err
		}
	case reflect.Bool:
		return func(r *reader, v reflect.Value) error {
			switch r.space(); {
			case r.word("true"):
				v.SetBool(true)
			case r.word("false"):
				v.SetBool(false)
			default:
				return errSlow
			}
			return nil
		}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return number(t.Kind() == reflect.Uint64)
	case reflect.Pointer:
		of := shapeOf(t.Elem(), known)
		return func(r *reader, v reflect.Value) error {
			if !v.IsNil() { // a key that stands twice
				return errSlow
			}
			v.Set(reflect.New(t.Elem()))
			return of(r, v.Elem())
		}
	case reflect.Slice:
		return sliceShape(t, shapeOf(t.Elem(), known))
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return slow
		}
		return mapShape(t, shapeOf(t.Elem(), known))
	case reflect.Struct:
		return structShape(t, known)
	}
	return slow
}

func number(unsigned bool) shape {
	return func(r *reader, v reflect.Value) error {
		r.space()
		negative := !unsigned && r.word("-")
		start, n := r.at, uint64(0)
		for ; r.at < len(r.raw) && '0' <= r.raw[r.at] && r.raw[r.at] <= '9'; r.at++ {
			n = n*10 + uint64(r.raw[r.at]-'0')
		}
		// 18 digits fit, a leading zero is none of ours, and neither is a fraction.
		if digits := r.at - start; digits == 0 || digits > 18 || digits > 1 && r.raw[start] == '0' ||
			r.at < len(r.raw) && strings.IndexByte(".eE", r.raw[r.at]) >= 0 {
			return errSlow
		}
		switch {
		case unsigned:
			v.SetUint(n)
		case negative:
			v.SetInt(-int64(n))
		default:
			v.SetInt(int64(n))
		}
		return nil
	}
}

func sliceShape(t reflect.Type, of shape) shape {
	return func(r *reader, v reflect.Value) error {
		if !v.IsNil() || !r.next('[') {
			return errSlow
		}
		if r.next(']') {
			v.Set(reflect.MakeSlice(t, 0, 0))
			return nil
		}
		for n := 0; ; n++ {
			if n == v.Cap() {
				v.Grow(max(1, n)) // twice as many
			}
			v.SetLen(n + 1)
			if err := of(r, v.Index(n)); err != nil {
				return err
			}
			if r.next(']') {
				return nil
			}
			if !r.next(',') {
				return errSlow
			}
		}
	}
}

func mapShape(t reflect.Type, of shape) shape {
	return func(r *reader, v reflect.Value) error {
		if !v.IsNil() || !r.next('{') {
			return errSlow
		}
		all := reflect.MakeMap(t)
		v.Set(all)
		if r.next('}') {
			return nil
		}
		for {
			name, err := r.text()
			if err != nil || !r.next(':') {
				return errSlow
			}
			key := reflect.ValueOf(name).Convert(t.Key())
			if all.MapIndex(key).IsValid() {
				return errSlow
			}
			value := reflect.New(t.Elem()).Elem()
			if err := of(r, value); err != nil {
				return err
			}
			all.SetMapIndex(key, value)
			if r.next('}') {
				return nil
			}
			if !r.next(',') {
				return errSlow
			}
		}
	}
}

type member struct {
	index []int
	of    shape
	bit   uint64
}

func structShape(t reflect.Type, known map[reflect.Type]shape) shape {
	members := map[string]member{}
	for _, f := range reflect.VisibleFields(t) {
		tag, tagged := f.Tag.Lookup("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct:
			continue // its fields are listed as well
		case !f.IsExported() || tag == "-":
			continue
		case name == "":
			name = f.Name
		}
		if _, twice := members[name]; twice || len(members) == 64 || f.Anonymous {
			return slow // what counts then is encoding/json's to say
		}
		members[name] = member{f.Index, shapeOf(f.Type, known), 1 << len(members)}
	}
	return func(r *reader, v reflect.Value) error {
		if !r.next('{') {
			return errSlow
		}
		if r.next('}') {
			return nil
		}
		for seen := uint64(0); ; {
			name, plain, err := r.quoted()
			if err != nil || !plain || !r.next(':') {
				return errSlow
			}
			m, ok := members[string(name)]
			if !ok || seen&m.bit != 0 {
				return errSlow
			}
			seen |= m.bit
			if err := m.of(r, v.FieldByIndex(m.index)); err != nil {
				return err
			}
			if r.next('}') {
				return nil
			}
			if !r.next(',') {
				return errSlow
			}
		}
	}
}

func (r *reader) space() {
	for r.at < len(r.raw) {
		switch r.raw[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// next takes a delimiter if it is the next thing.
func (r *reader) next(c byte) bool {
	r.space()
	if r.at < len(r.raw) && r.raw[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *reader) word(w string) bool {
	if len(r.raw)-r.at >= len(w) && string(r.raw[r.at:r.at+len(w)]) == w {
		r.at += len(w)
		return true
	}
	return false
}

// quoted takes a string and returns what is between its quotes, and whether that is
// what it means.
func (r *reader) quoted() (raw []byte, plain bool, err error) {
	if !r.next('"') {
		return nil, false, errSlow
	}
	start, ascii := r.at, true
	plain = true
	for ; r.at < len(r.raw); r.at++ {
		switch c := r.raw[r.at]; {
		case c == '"':
			raw = r.raw[start:r.at]
			r.at++
			return raw, plain && (ascii || utf8.Valid(raw)), nil
		case c == '\\':
			plain = false
			r.at++
		case c < ' ':
			return nil, false, errSlow
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false, errSlow
}

func (r *reader) text() (string, error) {
	raw, plain, err := r.quoted()
	if err != nil || plain {
		return string(raw), err
	}
	var s string
	err = json.Unmarshal(r.raw[r.at-len(raw)-2:r.at], &s)
	return s, err
}

// value takes whatever is next and returns it as it stands. Whether it is JSON is for
// who reads it to say.
func (r *reader) value() ([]byte, error) {
	r.space()
	start := r.at
	for depth := 0; r.at < len(r.raw); {
		switch r.raw[r.at] {
		case '"':
			if _, _, err := r.quoted(); err != nil {
				return nil, err
			}
		case '{', '[':
			depth++
			r.at++
			continue
		case '}', ']':
			depth--
			r.at++
		default:
			return nil, errSlow // no type that reads itself writes anything else
		}
		if depth == 0 {
			return r.raw[start:r.at], nil
		}
		for r.next(':') || r.next(',') {
			continue
		}
	}
	return nil, errSlow
}
