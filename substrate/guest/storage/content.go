package storage

import (
	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Content is data that is, or will be, named by its CID. It has one position for
// reading and writing.
type Content uint32

// NewContent makes an empty one.
func NewContent() (Content, error) {
	var id uint32
	err := sdk.StorageNewContent(&id).Err()
	return Content(id), err
}

// OpenContent opens the content of a CID.
func OpenContent(c cid.CID) (Content, error) {
	buf, err := c.Buffer()
	if err != nil {
		return 0, err
	}
	var id uint32
	err = sdk.StorageOpenCid(&id, &buf[0]).Err()
	return Content(id), err
}

// Read is that of io.Reader.
func (c Content) Read(p []byte) (int, error) {
	return sdk.Stream(p, func(buf *byte, size uint32, n *uint32) errno.Errno {
		return sdk.ContentReadFile(uint32(c), buf, size, n)
	})
}

// Write is that of io.Writer.
func (c Content) Write(p []byte) (int, error) {
	return sdk.Send(p, func(buf *byte, size uint32, n *uint32) errno.Errno {
		return sdk.ContentWriteFile(uint32(c), buf, size, n)
	})
}

// Seek is that of io.Seeker. Positions beyond 4 GiB are given without their
// higher bits.
func (c Content) Seek(offset int64, whence int) (int64, error) {
	var at int32
	err := sdk.ContentSeekFile(uint32(c), offset, int32(whence), &at).Err()
	return int64(uint32(at)), err
}

// Push adds the content to the network and gives its CID.
func (c Content) Push() (cid.CID, error) {
	return cid.Read(func(b *byte) errno.Errno { return sdk.ContentPushFile(uint32(c), b) })
}

// Close gives the content back. What was not pushed is gone.
func (c Content) Close() error { return sdk.ContentCloseFile(uint32(c)).Err() }
