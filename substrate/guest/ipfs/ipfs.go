// Package ipfs reads and adds content of the network by its CID.
//
//	client, err := ipfs.New()
//	content, err := client.Open(id)
//	defer content.Close()
//	_, err = io.Copy(w, content)
package ipfs

import (
	"github.com/taubyte/taubyte/substrate/guest/cid"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Client has contents. One is enough for all.
type Client uint32

// New makes a client.
func New() (Client, error) {
	var id uint32
	err := sdk.NewIpfsClient(&id).Err()
	return Client(id), err
}

// Content is data that is, or will be, named by its CID. It has one position for
// reading and writing.
type Content struct {
	client Client
	id     uint32
}

// NewContent makes an empty content.
func (c Client) NewContent() (*Content, error) {
	content := &Content{client: c}
	if e := sdk.IpfsNewContent(uint32(c), &content.id); e != 0 {
		return nil, e
	}
	return content, nil
}

// Open opens the content of a CID. One that is not found is
// errno.CidNotFoundOnIpfs.
func (c Client) Open(id cid.CID) (*Content, error) {
	buf, err := id.Buffer()
	if err != nil {
		return nil, err
	}
	content := &Content{client: c}
	if e := sdk.IpfsOpenFile(uint32(c), &content.id, &buf[0]); e != 0 {
		return nil, e
	}
	return content, nil
}

// Read is that of io.Reader.
func (c *Content) Read(p []byte) (int, error) {
	return sdk.Stream(p, func(buf *byte, size uint32, n *uint32) errno.Errno {
		return sdk.IpfsReadFile(uint32(c.client), c.id, buf, size, n)
	})
}

// Write is that of io.Writer.
func (c *Content) Write(p []byte) (int, error) {
	return sdk.Send(p, func(buf *byte, size uint32, n *uint32) errno.Errno {
		return sdk.IpfsWriteFile(uint32(c.client), c.id, buf, size, n)
	})
}

// Seek is that of io.Seeker. Positions beyond 4 GiB are given without their
// higher bits.
func (c *Content) Seek(offset int64, whence int) (int64, error) {
	var at int32
	err := sdk.IpfsSeekFile(uint32(c.client), c.id, offset, int32(whence), &at).Err()
	return int64(uint32(at)), err
}

// CID is that with which the content was opened.
func (c *Content) CID() (cid.CID, error) {
	return cid.Read(func(b *byte) errno.Errno { return sdk.IpfsFileCid(uint32(c.client), c.id, b) })
}

// Push adds the content to the network and gives its CID.
func (c *Content) Push() (cid.CID, error) {
	return cid.Read(func(b *byte) errno.Errno { return sdk.IpfsPushFile(uint32(c.client), c.id, b) })
}

// Close gives the content back. What was not pushed is gone.
func (c *Content) Close() error { return sdk.IpfsCloseFile(uint32(c.client), c.id).Err() }
