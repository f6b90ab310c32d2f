package substrate_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/substrate"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// A keeper is a guest that a test asks for one thing: it answers 200 with what the
// host gave it, or 600 and the number of the error.
type keeper struct {
	*Module
	next uint32 // free memory for texts
}

// The keeper's memory: cells, the body of the request, and what it answers.
const (
	handle, size, count, body, out = 0, 8, 12, 8 << 10, 96 << 10
)

func newKeeper() *keeper {
	k := &keeper{Module: New(4), next: 64}
	k.SDK("eventHttpRetCode", "ii:i")
	k.SDK("eventHttpWrite", "iiii:i")
	k.SDK("readHttpEventBody", "iiii:i")
	return k
}

// text puts a text into the memory and pushes where it is.
func (k *keeper) text(s string) []byte {
	at := k.next
	k.Data(at, s)
	k.next += uint32(len(s))
	return concat(I32(int32(at)), I32(int32(len(s))))
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// must calls a function, and answers its error if it has one.
func (k *keeper) must(name, typ string, args ...[]byte) []byte {
	f := k.SDK(name, typ)
	return concat(concat(args...), Call(f), Set(1), Get(1), If, Get(0), Get(1), I32(600), Add, Call(0), Drop, Return, End)
}

// given reads the request's body and says whether there is any.
func (k *keeper) given() []byte {
	return concat(Get(0), I32(body), I32(64<<10), I32(count), Call(2), Drop, I32(count), Load)
}

func (k *keeper) answer(at int32, n []byte) []byte {
	return concat(Get(0), I32(at), n, I32(16), Call(1), Drop)
}

func (k *keeper) done(code ...[]byte) []byte {
	k.Func("ping", "i:", "i", code...)
	return k.Bytes()
}

var opened = concat(I32(handle), Load)

// value puts what it is given into a database, or else gets what is there.
func value(db, key string) []byte {
	k := newKeeper()
	name, key2 := k.text(db), k.text(key)
	return k.done(
		k.must("newDatabase", "iii:i", name, I32(handle)),
		k.given(), If,
		k.must("databasePut", "iiiii:i", opened, key2, I32(body), I32(count), Load),
		Else,
		k.must("databaseGetSize", "iiii:i", opened, key2, I32(size)),
		k.must("databaseGet", "iiii:i", opened, key2, I32(out)),
		k.answer(out, concat(I32(size), Load)),
		End)
}

// global is value of a global one.
func global(name string, application, function int32) []byte {
	k := newKeeper()
	name2 := k.text(name)
	return k.done(
		k.given(), If,
		k.must("putGlobalValue", "iiiiiii:i", name2, I32(application), I32(function), I32(body), I32(count), Load, I32(0)),
		Else,
		k.must("getGlobalValueSize", "iiiii:i", name2, I32(application), I32(function), I32(size)),
		k.must("getGlobalValue", "iiiii:i", name2, I32(application), I32(function), I32(out)),
		k.answer(out, concat(I32(size), Load)),
		End)
}

// file adds what it is given to a storage, or else reads what is there.
func file(storage, name string) []byte {
	k := newKeeper()
	storage2, name2 := k.text(storage), k.text(name)
	return k.done(
		k.must("storageNew", "iii:i", storage2, I32(handle)),
		k.given(), If,
		k.must("storageAddFile", "iiiiiii:i", opened, name2, I32(4), I32(body), I32(count), Load, I32(1)),
		Else,
		k.must("storageGetFile", "iiiii:i", opened, name2, I32(0), I32(4)),
		opened, I32(4), Load, I32(out), I32(64<<10), I32(size), Call(k.SDK("storageReadFile", "iiiii:i")), Drop,
		k.answer(out, concat(I32(size), Load)),
		End)
}

// cidOf answers the CID of a file.
func cidOf(storage, name string) []byte {
	k := newKeeper()
	storage2, name2 := k.text(storage), k.text(name)
	return k.done(
		k.must("storageNew", "iii:i", storage2, I32(handle)),
		k.must("storageCid", "iiii:i", opened, name2, I32(out)),
		k.answer(out, I32(64)))
}

// named answers the content of a CID.
func named() []byte {
	k := newKeeper()
	return k.done(
		k.given(), Drop,
		k.must("storageOpenCid", "ii:i", I32(handle), I32(body)),
		opened, I32(out), I32(64<<10), I32(size), Call(k.SDK("contentReadFile", "iiii:i")), Drop,
		k.answer(out, concat(I32(size), Load)))
}

// pushes answers the CID of what it is given.
func pushes() []byte {
	k := newKeeper()
	return k.done(
		k.given(), Drop,
		k.must("newIpfsClient", "i:i", I32(4)),
		k.must("ipfsNewContent", "ii:i", I32(4), Load, I32(handle)),
		k.must("ipfsWriteFile", "iiiii:i", I32(4), Load, opened, I32(body), I32(count), Load, I32(size)),
		k.must("ipfsPushFile", "iii:i", I32(4), Load, opened, I32(out)),
		k.answer(out, I32(64)))
}

func keeps(name string, module []byte, change ...func(*config.Function)) thing {
	return fn(name, "/"+name, module, append([]func(*config.Function){func(f *config.Function) { f.Method = "POST" }}, change...)...)
}

func database(name, match string, change ...func(*config.Database)) thing {
	d := config.Database{Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name}, Match: match, Size: 1 << 20}
	for _, c := range change {
		c(&d)
	}
	return thing{id: d.ID, add: func(r *config.Resources) { r.Databases = append(r.Databases, d) }}
}

func storage(name, match string, change ...func(*config.Storage)) thing {
	s := config.Storage{Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name}, Type: "object", Match: match, Size: 1 << 20}
	for _, c := range change {
		c(&s)
	}
	return thing{id: s.ID, add: func(r *config.Resources) { r.Storages = append(r.Storages, s) }}
}

// A store is a cloud whose node is a hoarder as well, unless one of its own is.
type store struct {
	*cloud
	log *testbin.Buffer
}

func newStore(t testing.TB) *store {
	t.Helper()
	s := &store{&cloud{TB: t, net: testnet.New(t)}, &testbin.Buffer{}}
	s.node = s.net.Node()
	var err error
	s.registry, err = tns.New(t.Context(), s.node, s.node.Store, tns.WithOpenDomains(), tns.WithZone("zone.test"), tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.registry.Close()) })
	return s
}

func (s *store) hoards(on *testnet.Node) *hoarder.Service {
	s.Helper()
	h, err := hoarder.New(s.Context(), on, on.Store, hoarder.WithLogger(testnet.Logger(s)))
	require.NoError(s, err)
	s.Cleanup(func() { require.NoError(s, h.Close()) })
	return h
}

func (s *store) serves() {
	s.Helper()
	s.service = s.start(substrate.WithLogger(slog.New(slog.NewTextHandler(s.log, nil))))
}

// put deploys things to a branch of a project, at "<label>.zone.test" where it is in
// production and at "<branch>--<label>.zone.test" where it is not.
func (s *store) put(p taubyte.ProjectID, branch taubyte.Branch, label string, things ...thing) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	c := &config.Project{ID: p, Name: label}
	c.Domains = []config.Domain{{Common: config.Common{ID: "id-domain", Name: "domain"}, FQDN: label + ".zone.test", CertType: "auto"}}
	assets := map[taubyte.ResourceID]cid.Cid{}
	for _, t := range things {
		if t.app != nil {
			t.app(c)
		} else {
			t.add(&c.Resources)
		}
		if t.module == nil {
			continue
		}
		root, err := unixfs.AddFile(ctx, s.node.Blocks(), bytes.NewReader(t.module))
		require.NoError(s, err)
		assets[t.id] = root
	}
	s.order++
	d, err := s.registry.Publish(ctx, p, branch, tns.Part{
		Repository: "local/1", Commit: taubyte.Commit(fmt.Sprintf("%040d", s.order)), Order: s.order, Time: time.Now(), Config: c, Assets: assets,
	})
	require.NoError(s, err)
	require.NoError(s, s.service.Serving(ctx, p, branch, d.Sequence))
}

// post gives a function something, or nothing.
func (s *store) post(host, path, text string) string {
	s.Helper()
	w := httptest.NewRecorder()
	s.service.ServeHTTP(w, httptest.NewRequest("POST", "http://"+host+".zone.test"+path, strings.NewReader(text)))
	return fmt.Sprintf("%d %s", w.Code, w.Body.String())
}

const otherProject taubyte.ProjectID = "QmYJREDH1g4quMigBJutYMBgxTwWTJhEtvcrVzrQrxWvfj"

// What a project, a branch or an application keeps is out of the others' reach, by
// whatever name.
func TestStoresAreTheirOwners(t *testing.T) {
	s := newStore(t)
	s.hoards(s.node)
	s.serves()
	scopes := func(r ...thing) []thing {
		r = append(r, keeps("db", value("notes", "k")), keeps("file", file("files", "k")), keeps("global", global("k", 0, 0)),
			keeps("own", global("k", 0, 1)), keeps("cid", cidOf("files", "k")), keeps("named", named()), keeps("pushes", pushes()))
		r = append(r, database("notes", "notes"), storage("files", "files"))
		for _, app := range []taubyte.ApplicationID{"one", "two"} {
			r = append(r, inApplication(app,
				database("notes-"+string(app), "notes"), storage("files-"+string(app), "files"),
				keeps(string(app)+"-db", value("notes", "k")), keeps(string(app)+"-file", file("files", "k")),
				keeps(string(app)+"-global", global("k", 1, 0)), keeps(string(app)+"-named", named()), keeps(string(app)+"-cid", cidOf("files", "k")),
				keeps(string(app)+"-trick", value("../"+string(app)+"/notes", "k")),
			)...)
		}
		return r
	}
	s.put(project, "main", "here", scopes()...)
	s.put(project, "dev", "here", scopes()...)
	s.put(otherProject, "main", "there", scopes()...)

	paths := []string{"/db", "/one-db", "/two-db", "/global", "/own", "/one-global", "/two-global", "/file", "/one-file", "/two-file"}
	missing := map[string]string{"b": "629 ", "l": "629 ", "n": "629 ", "e": "690 "}
	hosts := []string{"here", "dev--here", "there"}
	for _, host := range hosts {
		for _, path := range paths {
			require.Equal(t, missing[path[len(path)-1:]], s.post(host, path, ""), "%s%s has what another has put", host, path)
			require.Equal(t, "200 ", s.post(host, path, "of "+host+path))
		}
	}
	for _, host := range hosts {
		for _, path := range paths {
			require.Equal(t, "200 of "+host+path, s.post(host, path, ""))
		}
		require.Equal(t, "622 ", s.post(host, "/one-trick", "x"))
	}

	// Who knows the CID of a content has not got it.
	for i, host := range hosts {
		id := s.post(host, "/cid", "")[len("200 "):]
		require.Equal(t, "200 of "+host+"/file", s.post(host, "/named", id))
		require.Equal(t, "200 of "+host+"/file", s.post(host, "/one-named", id), "applications see what is global")
		apps := s.post(host, "/one-cid", "")[len("200 "):]
		require.Equal(t, "200 of "+host+"/one-file", s.post(host, "/one-named", apps))
		require.Equal(t, "700 ", s.post(host, "/two-named", apps))
		require.Equal(t, "700 ", s.post(host, "/named", apps))
		for j, stranger := range hosts {
			if i != j {
				require.Equal(t, "700 ", s.post(stranger, "/named", id), "%s reads a file of %s", stranger, host)
			}
		}
		pushed := s.post(host, "/pushes", "pushed by "+host)[len("200 "):]
		require.Equal(t, "200 pushed by "+host, s.post(host, "/named", pushed))
		require.Equal(t, pushed, s.post(host, "/pushes", "pushed by "+host)[len("200 "):])
		for j, stranger := range hosts {
			if i != j {
				require.Equal(t, "700 ", s.post(stranger, "/named", pushed))
			}
		}
	}
}

// A name means the first resource that fits it, the application's before the
// project's; each name has a store of its own.
func TestNamesOfStores(t *testing.T) {
	s := newStore(t)
	s.hoards(s.node)
	s.serves()
	is := func(d *config.Database) { d.UseRegex = true }
	s.put(project, "main", "here", append(inApplication("app",
		database("inner", "^inner-", is),
		keeps("app-inner", value("inner-1", "k")), keeps("app-outer", value("my-outer-1", "k")), keeps("app-exact", value("exact", "k")),
	),
		database("any", "outer", is), database("exact", "exact"),
		keeps("inner", value("inner-1", "k")), keeps("outer", value("my-outer-1", "k")), keeps("outer2", value("my-outer-2", "k")),
		keeps("exact", value("exact", "k")), keeps("longer", value("exactly", "k")), keeps("nothing", value("", "k")),
	)...)
	for _, path := range []string{"/inner", "/longer", "/nothing"} {
		require.Equal(t, "622 ", s.post("here", path, "x"), path)
	}
	require.Contains(t, s.log.String(), "exactly")
	require.Equal(t, "200 ", s.post("here", "/app-inner", "inner"))
	require.Equal(t, "200 ", s.post("here", "/app-outer", "outer"))
	require.Equal(t, "200 outer", s.post("here", "/outer", ""), "what is global is the same for all")
	require.Equal(t, "629 ", s.post("here", "/outer2", ""))
	require.Equal(t, "200 ", s.post("here", "/exact", "exact"))
	require.Equal(t, "200 exact", s.post("here", "/app-exact", ""))
}

// What is configured and not offered is refused, with a reason in the log; the rest
// works.
func TestConfigurationOfStores(t *testing.T) {
	s := newStore(t)
	h := s.hoards(s.node)
	s.serves()
	s.put(project, "main", "here",
		database("secret", "secret", func(d *config.Database) { d.EncryptionType, d.EncryptionKey = "aes", "k" }),
		database("here", "here", func(d *config.Database) { d.Local = true }),
		database("small", "small", func(d *config.Database) { d.Size = 1000 }),
		storage("tiny", "tiny", func(d *config.Storage) { d.Size = 1000 }),
		storage("stream", "stream", func(d *config.Storage) { d.Type, d.TTL = "streaming", time.Hour }),
		keeps("secret", value("secret", "k")), keeps("local", value("here", "k")), keeps("full", value("small", "k")),
		keeps("file", file("tiny", "k")), keeps("stream", file("stream", "k")),
	)
	require.Equal(t, "622 ", s.post("here", "/secret", "x"))
	require.Contains(t, s.log.String(), "encryption is not offered")
	require.Equal(t, "200 ", s.post("here", "/local", "x"))
	require.Equal(t, "200 ", s.post("here", "/stream", "x"))
	big := strings.Repeat("x", 2000)
	require.Equal(t, "200 ", s.post("here", "/full", "x"))
	require.Equal(t, "624 ", s.post("here", "/full", big))
	require.Equal(t, "200 x", s.post("here", "/full", ""))
	require.Equal(t, "200 ", s.post("here", "/file", "x"))
	require.Equal(t, "631 ", s.post("here", "/file", big))
	require.Equal(t, "200 x", s.post("here", "/file", ""))

	stores, err := h.Stores(t.Context())
	require.NoError(t, err)
	sizes := map[string]int64{}
	for _, st := range stores {
		sizes[st.Instance.Name] = st.Size
		if st.Instance.Name == "here" {
			require.Equal(t, 1, st.Max)
		}
	}
	require.Equal(t, int64(1000), sizes["small"])
	require.NotContains(t, sizes, "secret")

	// Another size takes effect with the deployment.
	s.put(project, "main", "here", database("small", "small"), keeps("full", value("small", "k")))
	require.Equal(t, "200 ", s.post("here", "/full", big))
	require.Equal(t, "200 "+big, s.post("here", "/full", ""))
}

// The hoarder may be any node of the network, and nothing ends with a substrate node.
func TestStoresAcrossNodes(t *testing.T) {
	s := newStore(t)
	s.hoards(s.net.Node(taubyte.RoleHoarder))
	s.serves()
	things := []thing{
		database("notes", "notes"), storage("files", "files"),
		keeps("db", value("notes", "k")), keeps("file", file("files", "k")), keeps("global", global("k", 0, 0)), keeps("pushes", pushes()), keeps("named", named()),
	}
	s.put(project, "main", "here", things...)
	texts := map[string]string{"/db": "a value", "/file": strings.Repeat("a file ", 3000), "/global": "for all"}
	for path, text := range texts {
		require.Equal(t, "200 ", s.post("here", path, text), path)
		got := s.post("here", path, "")
		require.Equal(t, 4+len(text), len(got), path)
		require.True(t, "200 "+text == got, "%s: %.60q", path, got)
	}
	pushed := s.post("here", "/pushes", "pushed")[len("200 "):]

	require.NoError(t, s.service.Close())
	other := &store{&cloud{TB: t, net: s.net, node: s.net.Node(), registry: s.registry, order: s.order}, s.log}
	other.serves()
	other.put(project, "main", "here", things...)
	for path, text := range texts {
		require.True(t, "200 "+text == other.post("here", path, ""), path)
	}
	require.Equal(t, "200 pushed", other.post("here", "/named", pushed))
}

// Without a hoarder functions are told, and the rest goes on.
func TestWithoutHoarder(t *testing.T) {
	s := newStore(t)
	s.serves()
	s.put(project, "main", "here", database("notes", "notes"), storage("files", "files"),
		keeps("db", value("notes", "k")), keeps("file", file("files", "k")), keeps("global", global("k", 0, 0)), keeps("named", named()),
		keeps("ping", Pong()))
	require.Equal(t, "622 ", s.post("here", "/db", "x"))
	require.Equal(t, "622 ", s.post("here", "/file", "x"))
	require.Equal(t, "622 ", s.post("here", "/global", "x"))
	require.Equal(t, "200 PONG", s.post("here", "/ping", ""))
	s.hoards(s.node)
	require.Equal(t, "200 ", s.post("here", "/db", "x"), "it has come")
}

// A storage is no less guarded when a file of it is asked for by its CID.
func TestFilesByContentAreGuarded(t *testing.T) {
	s := newStore(t)
	s.hoards(s.node)
	s.serves()
	guardedBy := func(answer int32) []thing {
		return []thing{
			smartOp("guard", says(answer)),
			storage("cellar", "cellar", func(st *config.Storage) { st.SmartOps = []taubyte.ResourceID{"id-guard"} }),
			keeps("file", file("cellar", "k")), keeps("cid", cidOf("cellar", "k")), keeps("named", named()),
		}
	}
	s.put(project, "main", "here", guardedBy(0)...)
	require.Equal(t, "200 ", s.post("here", "/file", "wine"))
	id := s.post("here", "/cid", "")[len("200 "):]
	require.Equal(t, "200 wine", s.post("here", "/named", id))
	s.put(project, "main", "here", guardedBy(1)...)
	require.Equal(t, "622 ", s.post("here", "/file", ""))
	require.Equal(t, "700 ", s.post("here", "/named", id))
}

// Stores that a configuration names are made before the deployment serves.
func TestStoresAreReadyWithTheDeployment(t *testing.T) {
	s := newStore(t)
	h := s.hoards(s.node)
	s.serves()
	s.put(project, "main", "here", append(inApplication("app", database("inner", "inner"), keeps("app-f", value("inner", "k"))),
		database("notes", "notes"), storage("files", "files"), database("any", "^any", func(d *config.Database) { d.UseRegex = true }))...)
	stores, err := h.Stores(t.Context())
	require.NoError(t, err)
	var names []string
	for _, st := range stores {
		names = append(names, st.Kind+" "+st.Instance.Name)
	}
	require.ElementsMatch(t, []string{"database inner", "database notes", "storage files"}, names)
}
