//go:build !wasip1

// Package guesttest is a host for tests of functions on the developer's machine: by go test,
// in the function's own folder, without a cloud and without building for WASI.
//
//	func TestHello(t *testing.T) {
//		host := guesttest.New(t)
//		host.Secrets["TOKEN"] = "t"
//		response := host.HTTP(entry, httptest.NewRequest("GET", "/hello?name=you", nil))
//		…
//	}
//
// entry is the function that go:wasmexport is written above. A Host keeps everything in
// memory: databases, storages, globals, secrets, what is published and logged. Requests of
// package fetch go to Host.Fetch. What else the SDK has (dns, p2p, ipfs, i2mv, contents of
// storages, smart operations) is errno.Outside here as it is without a Host.
//
// A process is one guest, as an instance in the cloud is: package variables of the function
// stay from test to test, and only one test has a Host at a time.
package guesttest

import (
	"crypto/rand"
	"encoding/binary"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/event"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// A Host is what a function has around it. Its fields may be set before an event and read
// after it. It is not safe for concurrent use, as a guest has one thread.
type Host struct {
	// Databases are the values by key of each database by name. Keys begin with "/". A
	// function can open any name.
	Databases map[string]map[string][]byte
	// Storages are the versions of the files of each storage by name.
	Storages map[string]map[string]*File
	// Globals are the values of package globals, by "application/function/name", where the
	// first two are 0 or 1.
	Globals map[string][]byte
	// Secrets are what secret.Get knows. Variables are those of the process: t.Setenv.
	Secrets map[string]string
	// Fetch answers the requests of package fetch; nil: they all fail.
	Fetch http.RoundTripper
	// Channels are those that there are; nil: all are.
	Channels []string
	// Published are the messages that were published, the first first.
	Published []Message
	// Logged are the messages of package log.
	Logged []Entry
	// Self is what package self tells.
	Self Self

	t     testing.TB
	event uint32 // the id of the next

	kind      event.Kind
	http      *exchange
	message   Message
	due       time.Time
	databases []string // by handle
	storages  []string
	reads     []*reading
	writes    []*writing
	requests  []*request
	asked     string // the storage of the last question about a version
}

// Message is one of a channel.
type Message struct {
	Channel string
	Data    []byte
	Text    bool // as pubsub.PublishText has it
}

// Entry is a message to the log.
type Entry struct {
	Level   int // as package log has it
	Message string
}

// Self is what a function is.
type Self struct{ Project, Application, ID, Branch, Commit string }

var running sync.Mutex

// New gives the SDK a host until the test ends. Where another test has one, t fails.
func New(t testing.TB) *Host {
	t.Helper()
	if !running.TryLock() {
		t.Fatal("guesttest: another test has a host: a process is one guest, and its tests can't be parallel")
	}
	h := &Host{
		t: t, Databases: map[string]map[string][]byte{}, Storages: map[string]map[string]*File{}, Globals: map[string][]byte{}, Secrets: map[string]string{},
	}
	sdk.Fake = sdk.Functions{}
	h.events()
	h.others()
	h.httpEvents()
	h.fetches()
	h.databaseCalls()
	h.storageCalls()
	t.Cleanup(func() {
		sdk.Fake = sdk.Functions{}
		running.Unlock()
	})
	return h
}

// Message has entry handle a message of a channel, and gives what it returns.
func (h *Host) Message(entry func(uint32) uint32, channel string, data []byte) uint32 {
	h.kind, h.message = event.KindPubSub, Message{Channel: channel, Data: data}
	return h.run(entry)
}

// Tick has entry handle the tick of a timer that is due at a time, and gives what it returns.
func (h *Host) Tick(entry func(uint32) uint32, due time.Time) uint32 {
	h.kind, h.due = event.KindTimer, due
	return h.run(entry)
}

// run runs an entry point on the event that is set, which ends with it, and so does what
// belongs to it.
func (h *Host) run(entry func(uint32) uint32) uint32 {
	defer func() {
		h.event++
		h.kind, h.http, h.message = event.Unknown, nil, Message{}
		for _, r := range h.requests {
			r.end()
		}
		h.reads, h.writes, h.requests = nil, nil, nil
	}()
	return entry(h.event)
}

// on reports what is wrong with a call about event e, which has to be of a kind.
func (h *Host) on(e uint32, kind event.Kind) errno.Errno {
	switch {
	case e != h.event || h.kind == event.Unknown:
		return errno.EventNotFound
	case h.kind != kind:
		return errno.NilAddress
	}
	return errno.None
}

func (h *Host) events() {
	f := &sdk.Fake
	f.GetEventType = func(e uint32, kind *uint32) {
		if e == h.event {
			*kind = uint32(h.kind)
		}
	}
	f.GetTimerEventScheduled = func(e uint32, ns *uint64) errno.Errno {
		*ns = uint64(h.due.UnixNano())
		return h.on(e, event.KindTimer)
	}
	f.GetMessageDataSize, f.GetMessageData = pair1(func(e uint32) (string, errno.Errno) { return string(h.message.Data), h.on(e, event.KindPubSub) })
	f.GetMessageChannelSize, f.GetMessageChannel = pair1(func(e uint32) (string, errno.Errno) { return h.message.Channel, h.on(e, event.KindPubSub) })

	exists := func(channel string) bool { return h.Channels == nil || slices.Contains(h.Channels, channel) }
	f.SetSubscriptionChannel = func(channel string) errno.Errno { return when(exists(channel), errno.SubscribeFailed) }
	publish := func(text bool) func(string, *byte, uint32) errno.Errno {
		return func(channel string, p *byte, n uint32) errno.Errno {
			data := slices.Clone(view(p, n))
			if !exists(channel) || len(data) > 256<<10 || text && !utf8.Valid(data) {
				return errno.PublishFailed
			}
			h.Published = append(h.Published, Message{channel, data, text})
			return errno.None
		}
	}
	f.PublishToChannel, f.PublishTextToChannel = publish(false), publish(true)
	f.GetWebSocketURLSize, f.GetWebSocketURL = pair1(func(channel string) (string, errno.Errno) {
		return "ws-test/" + channel, when(exists(channel), errno.GetWebSocketURLFailed)
	})
}

func (h *Host) others() {
	f := &sdk.Fake
	f.CryptoRead = func(p *byte, n uint32, count *uint64) errno.Errno {
		rand.Read(view(p, n))
		*count = uint64(n)
		return errno.None
	}
	f.SecretValueSize, f.SecretValue = pair1(func(name string) (string, errno.Errno) {
		value, ok := h.Secrets[name]
		return value, when(ok, errno.KeystoreNotFound)
	})
	f.LogAtLevel = func(level int32, p *byte, n uint32) errno.Errno {
		h.Logged = append(h.Logged, Entry{int(level), string(view(p, n))})
		h.t.Logf("log, level %d: %s", level, view(p, n))
		return errno.None
	}
	f.SelfProjectSize, f.SelfProject = pair0(func() string { return h.Self.Project })
	f.SelfApplicationSize, f.SelfApplication = pair0(func() string { return h.Self.Application })
	f.SelfIdSize, f.SelfId = pair0(func() string { return h.Self.ID })
	f.SelfBranchSize, f.SelfBranch = pair0(func() string { return h.Self.Branch })
	f.SelfCommitSize, f.SelfCommit = pair0(func() string { return h.Self.Commit })

	key := func(name string, application, function uint32) string {
		return string(rune('0'+application)) + "/" + string(rune('0'+function)) + "/" + name
	}
	f.GetGlobalValueSize = func(name string, application, function uint32, n *uint32) errno.Errno {
		value, ok := h.Globals[key(name, application, function)]
		*n = uint32(len(value))
		return when(ok, errno.DatabaseKeyNotFound)
	}
	f.GetGlobalValue = func(name string, application, function uint32, p *byte) errno.Errno {
		value, ok := h.Globals[key(name, application, function)]
		put(p, string(value))
		return when(ok, errno.DatabaseKeyNotFound)
	}
	f.PutGlobalValue = func(name string, application, function uint32, p *byte, n, _ uint32) errno.Errno {
		h.Globals[key(name, application, function)] = slices.Clone(view(p, n))
		return errno.None
	}
}

// when is no error where ok, or else e.
func when(ok bool, e errno.Errno) errno.Errno {
	if ok {
		return errno.None
	}
	return e
}

// view is memory that the SDK hands over for a call.
func view(p *byte, n uint32) []byte { return unsafe.Slice(p, n) }

// put writes where the SDK has made room for a value.
func put(p *byte, value string) {
	if value != "" {
		copy(view(p, uint32(len(value))), value)
	}
}

// pair0, pair1 and pair2 are the two calls that give a value, by nothing, one or two
// arguments: the first gives its size, the second the value.
func pair0(of func() string) (func(*uint32) errno.Errno, func(*byte) errno.Errno) {
	return func(n *uint32) errno.Errno { *n = uint32(len(of())); return errno.None },
		func(p *byte) errno.Errno { put(p, of()); return errno.None }
}

func pair1[A any](of func(A) (string, errno.Errno)) (func(A, *uint32) errno.Errno, func(A, *byte) errno.Errno) {
	return func(a A, n *uint32) errno.Errno {
			value, e := of(a)
			*n = uint32(len(value))
			return e
		}, func(a A, p *byte) errno.Errno {
			value, e := of(a)
			if e == errno.None {
				put(p, value)
			}
			return e
		}
}

func pair2[A, B any](of func(A, B) (string, errno.Errno)) (func(A, B, *uint32) errno.Errno, func(A, B, *byte) errno.Errno) {
	return func(a A, b B, n *uint32) errno.Errno {
			value, e := of(a, b)
			*n = uint32(len(value))
			return e
		}, func(a A, b B, p *byte) errno.Errno {
			value, e := of(a, b)
			if e == errno.None {
				put(p, value)
			}
			return e
		}
}

// joined is a list of texts with a NUL behind each, and prefixed one with the length of each
// before it.
func joined(list []string) string {
	var b []byte
	for _, s := range list {
		b = append(append(b, s...), 0)
	}
	return string(b)
}

func prefixed(list []string) string {
	var b []byte
	for _, s := range list {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return string(b)
}
