package guestsdk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryPackage runs a guest that checks what each package of the SDK makes
// of the host's answers.
func TestEveryPackage(t *testing.T) {
	module, err := build(t, t.TempDir(), filepath.Join("testdata", "all"))
	require.NoError(t, err)
	h := newHost(t)
	kind := uint32(2)
	h.functions["getEventType"] = func(c *call) uint32 { c.u32(); c.putU32(kind); return 0 }
	h.databases()
	h.storages()
	h.contents()
	h.messages()
	h.peers()
	h.others()
	guest := h.start(t, module)
	for _, export := range []string{"databases", "storages", "ipfss", "messages", "peers", "others"} {
		if export == "peers" {
			kind = 3
		}
		result, err := guest.ExportedFunction(export).Call(context.Background(), 0)
		require.NoError(t, err, "%s: %s", export, h.stderr.String())
		require.Zero(t, result[0], export)
	}
}

const id = "\x01\x55\x00\x05hello"

// pair has the host hand out what get makes of the parameters, in two steps.
// Both functions take them, then one the cell for the size, one the buffer.
func (h *host) pair(size, bytes string, get func(c *call) ([]byte, uint32)) {
	h.functions[size] = func(c *call) uint32 {
		b, e := get(c)
		if e == 0 {
			c.putU32(uint32(len(b)))
		}
		return e
	}
	h.functions[bytes] = func(c *call) uint32 {
		b, e := get(c)
		if e == 0 {
			c.put(b)
		}
		return e
	}
}

// constant is a pair for which only the event or handle before it matters.
func (h *host) constant(name, text string) {
	h.pair(name+"Size", name, func(c *call) ([]byte, uint32) { c.u32(); return []byte(text), 0 })
}

func joined(list ...string) []byte {
	var b []byte
	for _, s := range list {
		b = append(append(b, s...), 0)
	}
	return b
}

func (c *call) cid() string {
	b, _ := c.guest.Memory().Read(c.u32(), 64)
	return string(b[:len(id)])
}

func (c *call) stream(r io.Reader) uint32 {
	n, err := r.Read(c.bytes())
	c.putU32(uint32(n))
	if err == io.EOF {
		return 8
	}
	return 0
}

func (h *host) databases() {
	values := map[string][]byte{}
	f := h.functions
	f["newDatabase"] = func(c *call) uint32 { c.text(); c.putU32(5); return 0 }
	f["databaseClose"] = func(*call) uint32 { return 0 }
	h.pair("databaseGetSize", "databaseGet", func(c *call) ([]byte, uint32) {
		c.u32()
		v, ok := values[c.text()]
		if !ok {
			return nil, 29
		}
		return v, 0
	})
	f["databasePut"] = func(c *call) uint32 {
		c.u32()
		key := c.text()
		values[key] = bytes.Clone(c.bytes())
		return 0
	}
	f["databaseDelete"] = func(c *call) uint32 { c.u32(); delete(values, c.text()); return 0 }
	h.pair("databaseListSize", "databaseList", func(c *call) ([]byte, uint32) {
		c.u32()
		prefix := "/" + c.text()
		var keys []string
		for k := range values {
			if strings.HasPrefix(k, prefix) {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		return joined(keys...), 0
	})
}

func (h *host) storages() {
	var versions [][]byte
	var open io.Reader
	f := h.functions
	f["storageNew"] = func(c *call) uint32 { c.text(); c.putU32(0); return 0 }
	f["storageAddFile"] = func(c *call) uint32 {
		c.u32()
		c.text()
		cell := c.u32()
		data := bytes.Clone(c.bytes())
		if overwrite := c.u32(); overwrite == 1 {
			versions[len(versions)-1] = data
		} else {
			versions = append(versions, data)
		}
		c.guest.Memory().WriteUint32Le(cell, uint32(len(versions)))
		return 0
	}
	f["storageGetFile"] = func(c *call) uint32 {
		c.u32()
		c.text()
		v := int(c.u32())
		if v == 0 {
			v = len(versions)
		}
		if v == 0 {
			return 32
		}
		open = bytes.NewReader(versions[v-1])
		c.putU32(9)
		return 0
	}
	f["storageReadFile"] = func(c *call) uint32 { c.u32(); c.u32(); return c.stream(open) }
	f["storageCloseFile"] = func(c *call) uint32 { return c.u32() + c.u32() - 9 }
	f["storageDeleteFile"] = func(c *call) uint32 {
		c.u32()
		c.text()
		if c.u32(); c.u32() == 1 {
			versions = nil
		}
		return 0
	}
	h.pair("storageListFilesSize", "storageListFiles", func(c *call) ([]byte, uint32) {
		c.u32()
		names := []string{}
		for i := range versions {
			names = append(names, fmt.Sprintf("/file/a/b.txt/%d", i+1))
		}
		if len(names) == 0 {
			return []byte{0}, 0
		}
		return joined(names...), 0
	})
	h.pair("storageListVersionsSize", "storageListVersions", func(c *call) ([]byte, uint32) { return joined("1", "2"), skip(c, 3) })
	h.functions["storageCurrentVersionSize"] = func(c *call) uint32 { skip(c, 3); c.putU32(1); return 0 }
	h.functions["storageCurrentVersion"] = func(c *call) uint32 { skip(c, 2); c.put([]byte("2")); return 0 }
	h.constant("storageUsed", "40003")
	h.constant("storageCapacity", fmt.Sprint(1<<40))
	f["storageCid"] = func(c *call) uint32 { skip(c, 3); c.put([]byte(id)); return 0 }
}

// skip leaves out n parameters. It returns 0.
func skip(c *call, n int) uint32 {
	c.stack = c.stack[n:]
	return 0
}

// contents are those of storages and those of IPFS, which take a client before.
func (h *host) contents() {
	var data []byte
	var at int
	f := h.functions
	create := func(c *call) uint32 { data, at = nil, 0; c.putU32(3); return 0 }
	open := func(c *call) uint32 {
		c.putU32(4)
		if data, at = []byte("hello"), 0; c.cid() != id {
			return 18
		}
		return 0
	}
	for prefix, before := range map[string]int{"content": 1, "ipfs": 2} {
		f[prefix+"ReadFile"] = func(c *call) uint32 {
			skip(c, before)
			buf := c.bytes()
			n := copy(buf, data[at:])
			at += n
			c.putU32(uint32(n))
			if at == len(data) {
				return 8
			}
			return 0
		}
		f[prefix+"WriteFile"] = func(c *call) uint32 {
			skip(c, before)
			data = append(data[:at], c.bytes()...)
			c.putU32(uint32(len(data) - at))
			at = len(data)
			return 0
		}
		f[prefix+"SeekFile"] = func(c *call) uint32 {
			skip(c, before)
			offset := int64(c.stack[0])
			skip(c, 1)
			if c.u32() != 2 {
				return 98
			}
			at = len(data) + int(offset)
			c.putU32(uint32(at))
			return 0
		}
		for _, name := range []string{"PushFile", "FileCid"} {
			f[prefix+name] = func(c *call) uint32 { skip(c, before); c.put([]byte(id)); return 0 }
		}
		f[prefix+"CloseFile"] = func(*call) uint32 { return 0 }
	}
	f["storageNewContent"], f["storageOpenCid"] = create, open
	f["newIpfsClient"] = func(c *call) uint32 { c.putU32(0); return 0 }
	f["ipfsNewContent"] = func(c *call) uint32 { skip(c, 1); return create(c) }
	f["ipfsOpenFile"] = func(c *call) uint32 { skip(c, 1); return open(c) }
}

func (h *host) messages() {
	h.constant("getMessageChannel", "room/1")
	h.constant("getMessageData", "hi")
	expect := func(name string, want ...string) {
		h.functions[name] = func(c *call) uint32 {
			for _, w := range want {
				if c.text() != w {
					return 21
				}
			}
			return 0
		}
	}
	expect("setSubscriptionChannel", "room/1")
	expect("publishToChannel", "room/1", "back")
	h.pair("getWebSocketURLSize", "getWebSocketURL", func(c *call) ([]byte, uint32) { return []byte("ws-x/" + c.text()), 0 })
	h.functions["getP2PEventDataSize"] = func(*call) uint32 { return 4 }
}

func (h *host) peers() {
	f := h.functions
	h.constant("getP2PEventProtocol", "/p/v1")
	h.constant("getP2PEventCommand", "greet")
	wrong := f["getP2PEventDataSize"]
	h.constant("getP2PEventData", "hi")
	right, first := f["getP2PEventDataSize"], true
	f["getP2PEventDataSize"] = func(c *call) uint32 {
		if first { // while the event is a message
			first = false
			return wrong(c)
		}
		return right(c)
	}
	for _, name := range []string{"getP2PEventFrom", "getP2PEventTo"} {
		f[name] = func(c *call) uint32 { skip(c, 1); c.put([]byte(id)); return 0 }
	}
	f["writeP2PResponse"] = func(c *call) uint32 {
		if skip(c, 1); c.text() != "back" {
			return 43
		}
		return 0
	}
	var command, reply string
	f["newCommand"] = func(c *call) uint32 { c.text(); command = c.text(); c.putU32(2); return 0 }
	send := func(c *call) uint32 {
		reply = command + ": " + c.text()
		c.putU32(uint32(len(reply)))
		return 0
	}
	f["sendCommand"] = func(c *call) uint32 { skip(c, 1); return send(c) }
	f["sendCommandTo"] = func(c *call) uint32 {
		if skip(c, 1); c.cid() != id {
			return 43
		}
		return send(c)
	}
	f["readCommandResponse"] = func(c *call) uint32 {
		skip(c, 1)
		if buf := c.bytes(); copy(buf, reply) != len(reply) || len(buf) != len(reply) {
			return 89
		}
		return 0
	}
	h.pair("listenToProtocolSize", "listenToProtocol", func(c *call) ([]byte, uint32) { return []byte("x" + c.text()), 0 })
	list := binary.LittleEndian.AppendUint16(nil, uint16(len(id)))
	list = append(list, id...)
	list = append(list, list...)
	f["discoverPeersSize"] = func(c *call) uint32 {
		if c.u32() != 2 || c.u32() != 1<<32-1 {
			return 117
		}
		c.putU32(6)
		c.putU32(uint32(len(list)))
		return 0
	}
	f["discoverPeers"] = func(c *call) uint32 { skip(c, 1); c.put(list); return 0 }
}

func (h *host) others() {
	f := h.functions
	var url, header, body string
	var method uint32
	f["newHttpClient"] = func(c *call) uint32 { c.putU32(0); return 0 }
	f["newHttpRequest"] = func(c *call) uint32 { skip(c, 1); c.putU32(1); header, body = "", ""; return 0 }
	f["setHttpRequestURL"] = func(c *call) uint32 { skip(c, 2); url = c.text(); return 0 }
	f["setHttpRequestMethod"] = func(c *call) uint32 { skip(c, 2); method = c.u32(); return 0 }
	f["setHttpRequestHeader"] = func(c *call) uint32 {
		skip(c, 2)
		header = c.text() + "=" + strings.ReplaceAll(strings.TrimSuffix(c.text(), "\x00"), "\x00", ",")
		return 0
	}
	f["setHttpRequestBody"] = func(c *call) uint32 { skip(c, 2); body = c.text(); return 0 }
	var response io.Reader
	f["doHttpRequest"] = func(c *call) uint32 {
		if strings.Contains(url, "127.0.0.1") {
			return 13
		}
		response = strings.NewReader(fmt.Sprint(method, " ", url, " ", header, " ", body))
		return 0
	}
	f["readHttpResponseBody"] = func(c *call) uint32 { skip(c, 2); return c.stream(response) }
	f["closeHttpResponseBody"] = func(*call) uint32 { return 0 }
	h.pair("getHttpResponseHeaderSize", "getHttpResponseHeader", func(c *call) ([]byte, uint32) { return joined("v1", "v2"), skip(c, 4) })
	h.pair("getHttpResponseHeaderKeysSize", "getHttpResponseHeaderKeys", func(c *call) ([]byte, uint32) { return joined("X", "Y"), skip(c, 2) })

	f["dnsNewResolver"] = func(c *call) uint32 { c.putU32(0); return 0 }
	f["dnsRerouteResolver"] = func(*call) uint32 { return 0 }
	f["dnsResetResolver"] = func(*call) uint32 { return 0 }
	for name, answer := range map[string][]byte{
		"TxT": joined("one", "two"), "Address": joined("a.", "b."), "CNAME": []byte("c."), "MX": joined("m./10/", "n./20/"),
	} {
		h.pair("dnsLookup"+name+"Size", "dnsLookup"+name, func(c *call) ([]byte, uint32) { return answer, skip(c, 3) })
	}

	for name, answer := range map[string]string{"Project": "project", "Application": "", "Id": "id", "Branch": "main", "Commit": "commit"} {
		h.pair("self"+name+"Size", "self"+name, func(*call) ([]byte, uint32) { return []byte(answer), 0 })
	}

	values := map[string][]byte{}
	key := func(c *call) string { return fmt.Sprint(c.text(), c.u32(), c.u32()) }
	h.pair("getGlobalValueSize", "getGlobalValue", func(c *call) ([]byte, uint32) {
		v, ok := values[key(c)]
		if !ok {
			return nil, 29
		}
		return v, 0
	})
	f["putGlobalValue"] = func(c *call) uint32 { k := key(c); values[k] = bytes.Clone(c.bytes()); return 0 }

	f["cryptoRead"] = func(c *call) uint32 {
		n := copy(c.bytes(), strings.Repeat("r", 1000))
		c.guest.Memory().WriteUint64Le(c.u32(), uint64(n))
		return 0
	}

	var view, fifo []byte
	f["memoryViewNew"] = func(c *call) uint32 { view = c.bytes(); skip(c, 1); c.putU32(1); return 0 }
	f["memoryViewOpen"] = func(c *call) uint32 { skip(c, 1); c.putU32(1); c.putU32(uint32(len(view))); return 0 }
	f["memoryViewRead"] = func(c *call) uint32 {
		skip(c, 1)
		from, count := c.u32(), c.u32()
		part := view[from : from+count]
		c.put(part)
		c.putU32(count)
		return 0
	}
	f["memoryViewClose"] = func(*call) uint32 { return 0 }
	f["fifoNew"] = func(*call) uint32 { return 1 }
	f["fifoPush"] = func(c *call) uint32 { skip(c, 1); fifo = append(fifo, byte(c.u32())); return 0 }
	f["fifoPop"] = func(c *call) uint32 {
		if len(fifo) == 0 {
			return 8
		}
		skip(c, 1)
		c.put(fifo[:1])
		fifo = fifo[1:]
		return 0
	}
	f["fifoClose"] = func(*call) uint32 { return 0 }
}
