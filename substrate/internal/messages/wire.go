package messages

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/taubyte/taubyte"
)

// The bounds of what goes between nodes.
const (
	version = 1
	// maxName bounds each name in a message: of a channel, above all.
	maxName = 1 << 10
	// maxFrame bounds a frame, and so a message in it.
	maxFrame = 768 << 10
	// inFrame is how many bytes of messages are put together.
	inFrame   = 128 << 10
	frameHead = 1 + 8 + 8
)

// A frame is what a node tells the others at a time:
//
//	version   1 byte: 1
//	epoch     8 bytes, big endian: of this start of the sender, by chance
//	sequence  8 bytes, big endian: of the frame in the epoch, from 1
//
// and then messages up to the end, each as its project, branch, scope, channel and
// data: five times a length (uvarint) and as many bytes.
//
// A message whose five fields are all empty says that the next one is text; all others
// are binary. Nodes that do not know of text find no branch of that name, and pass over
// it.
//
// A frame without messages says how far its sender is.
type frame struct {
	epoch, sequence uint64
	messages        []told
	size            int // in bytes
}

// told is a message in a frame.
type told struct {
	branch  Branch
	scope   taubyte.ApplicationID
	channel string
	data    []byte // of the frame: shared
	text    bool   // and not binary: UTF-8
}

// textNext says that the next message of a frame is text.
const textNext = "\x00\x00\x00\x00\x00"

func beginFrame(b []byte, epoch, sequence uint64) []byte {
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, epoch)
	return binary.BigEndian.AppendUint64(b, sequence)
}

func (m *told) append(b []byte) []byte {
	if m.text {
		b = append(b, textNext...)
	}
	b = appendChannel(b, m.branch, m.scope, m.channel)
	return appendField(b, m.data)
}

func appendChannel(b []byte, id Branch, scope taubyte.ApplicationID, channel string) []byte {
	b = appendField(b, string(id.Project))
	b = appendField(b, string(id.Branch))
	b = appendField(b, string(scope))
	return appendField(b, channel)
}

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}

func decodeFrame(b []byte) (*frame, error) {
	r := reader{b: b}
	f := &frame{size: len(b)}
	if len(b) > maxFrame {
		return nil, fmt.Errorf("%w frame: %d bytes", taubyte.ErrInvalid, len(b))
	}
	r.version()
	f.epoch, f.sequence = r.uint64(), r.uint64()
	if r.err == nil && f.sequence == 0 {
		r.fail("its sequence is 0")
	}
	for r.err == nil && len(r.b) > 0 {
		after, text := bytes.CutPrefix(r.b, []byte(textNext))
		if r.b = after; text && len(after) == 0 {
			r.fail("it ends before its text")
			break
		}
		m := told{text: text, branch: Branch{taubyte.ProjectID(r.name()), taubyte.Branch(r.name())}, scope: taubyte.ApplicationID(r.name()), channel: r.name()}
		m.data = r.bytes(maxFrame)
		if r.err == nil && m.branch == (Branch{}) && m.scope == "" && m.channel == "" && len(m.data) == 0 {
			r.fail("a message of nothing")
			break
		}
		f.messages = append(f.messages, m)
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w frame: %w", taubyte.ErrInvalid, r.err)
	}
	return f, nil
}

// A delivery is a message for a function, from the publisher's node to the one that
// is to run it: a byte of version, the depth (uvarint), and then the function's
// application and id and the message's project, branch, scope, channel and data, as in a
// frame.
type delivery struct {
	to      Function
	message Message
}

func (d *delivery) encode() []byte {
	m := &d.message
	b := make([]byte, 0, len(m.Data)+len(m.Channel)+256)
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(m.Depth))
	b = appendField(b, string(d.to.Application))
	b = appendField(b, string(d.to.ID))
	b = appendChannel(b, m.Branch, m.Scope, m.Channel)
	return appendField(b, m.Data)
}

func decodeDelivery(b []byte) (*delivery, error) {
	r := reader{b: b}
	r.version()
	d := &delivery{}
	d.message.Depth = r.int()
	d.to = Function{taubyte.ApplicationID(r.name()), taubyte.ResourceID(r.name())}
	m := &d.message
	m.Branch = Branch{taubyte.ProjectID(r.name()), taubyte.Branch(r.name())}
	m.Scope, m.Channel = taubyte.ApplicationID(r.name()), r.name()
	m.Data = string(r.bytes(maxFrame))
	if r.err == nil && len(r.b) > 0 {
		r.fail("more than one message")
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w delivery: %w", taubyte.ErrInvalid, r.err)
	}
	return d, nil
}

// A reader takes fields off the front. After an error it gives zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.b, r.err = nil, fmt.Errorf("%s", why)
	}
}

func (r *reader) version() {
	if len(r.b) == 0 {
		r.fail("it is empty")
		return
	}
	if r.b[0] != version {
		r.fail(fmt.Sprintf("version %d", r.b[0]))
		return
	}
	r.b = r.b[1:]
}

func (r *reader) uint64() uint64 {
	if len(r.b) < 8 {
		r.fail("it is cut")
		return 0
	}
	n := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return n
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail("a number is cut")
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) int() int {
	n := r.uvarint()
	if n > math.MaxInt16 {
		r.fail("a number is too large")
		return 0
	}
	return int(n)
}

func (r *reader) bytes(most int) []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) || n > uint64(most) {
		r.fail("a field is cut or too long")
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) name() string { return string(r.bytes(maxName)) }
