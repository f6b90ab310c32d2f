package cid_test

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/errno"
)

func TestText(t *testing.T) {
	for _, text := range []string{
		"QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
		"bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
		"bafkqaaa", // the identity of nothing
	} {
		c, err := cid.Parse(text)
		if err != nil || c.String() != text {
			t.Errorf("%s: %q, %v", text, c, err)
		}
		// The host writes it to a buffer of zeros, of which it is the start.
		buf, err := c.Buffer()
		if err != nil {
			t.Fatal(err)
		}
		back, err := cid.Read(func(b *byte) errno.Errno {
			copy((*[64]byte)(unsafe.Pointer(b))[:], buf[:])
			return 0
		})
		if err != nil || back != c {
			t.Errorf("%s: read back %q, %v", text, back, err)
		}
	}
	for _, text := range []string{"", "b", "Qm", "zdj7W", "b!", "bafkq", "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1O"} {
		if c, err := cid.Parse(text); !errors.Is(err, cid.ErrInvalid) {
			t.Errorf("%q is %q", text, c)
		}
	}
	if _, err := cid.CID("nonsense").Buffer(); err == nil {
		t.Error("nonsense passed")
	}
	if _, err := cid.Read(func(*byte) errno.Errno { return errno.P2PFromNotFound }); err != errno.P2PFromNotFound {
		t.Errorf("got %v", err)
	}
	if _, err := cid.Read(func(*byte) errno.Errno { return 0 }); !errors.Is(err, cid.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("bafkqaaa")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := cid.Parse(text); err == nil {
			if again, err := cid.Parse(c.String()); err != nil || again != c {
				t.Errorf("%q, %q, %v", c, again, err)
			}
		}
	})
}
