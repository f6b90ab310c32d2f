package hoarder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/unixfs"
)

// ClassLog is the class of what nodes of patrick have kept, the logs of jobs: those they
// may read again.
const ClassLog = "log"

// logReaders are the roles that may read what is of ClassLog.
var logReaders = []taubyte.Role{taubyte.RolePatrick, taubyte.RoleHoarder}

// openLog opens a file that a project has kept with ClassLog on this node. ErrNotFound: it
// is not on this node, or of another class. It takes a node of the roles patrick or hoarder.
func (s *Service) openLog(ctx context.Context, project taubyte.ProjectID, root cid.Cid) (io.ReadCloser, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(logReaders...); err != nil {
		return nil, err
	}
	if err := checkRoot(root); err != nil {
		return nil, err
	}
	item, err := s.claimedBy(ctx, root, project)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(item.Claims, func(c Claim) bool { return c.Project == project && c.Class == ClassLog }) {
		return nil, fmt.Errorf("%w: %s is no log of project %s", taubyte.ErrNotFound, root, project)
	}
	if _, here, err := s.has(ctx, root); err != nil || !here {
		return nil, errors.Join(err, fmt.Errorf("%w: content %s is not on this node", taubyte.ErrNotFound, root))
	}
	return unixfs.Open(ctx, blockservice.New(s.host.Blocks().Blockstore(), nil), root, "")
}

// OpenLog is Client.OpenLog.
func (s *Service) OpenLog(ctx context.Context, project taubyte.ProjectID, root cid.Cid) (io.ReadCloser, error) {
	return s.peers.OpenLog(ctx, project, root)
}

// OpenLog opens a file that a project keeps with ClassLog, on a hoarder that has it: on its
// own host, or else another. The caller closes it. A read fails when that one goes away.
//
// ErrNotFound: the project keeps no such log. ErrUnavailable: those that have it are away. It
// takes a node of the roles patrick or hoarder.
func (c *Client) OpenLog(ctx context.Context, project taubyte.ProjectID, root cid.Cid) (io.ReadCloser, error) {
	if s := c.local(); s != nil {
		log, err := s.openLog(ctx, project, root)
		if err == nil || !errors.Is(err, taubyte.ErrNotFound) {
			return log, err
		}
	}
	item, err := c.Item(ctx, root)
	if err != nil {
		return nil, err
	}
	path := "/logs/" + root.String() + "?project=" + url.QueryEscape(string(project))
	err = fmt.Errorf("%w: no hoarder in reach has the log %s", taubyte.ErrUnavailable, root)
	for _, r := range item.Replicas {
		if !r.Live || r.Peer == c.host.ID() {
			continue
		}
		resp, e := c.rpc.Open(ctx, r.Peer, http.MethodGet, path, nil)
		if e == nil {
			return resp.Body, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		err = errors.Join(err, e)
	}
	return nil, err
}

// serveLog serves a log that is on this node.
func (s *Service) serveLog(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
	root, err := parseRoot(r.PathValue("root"))
	var log io.ReadCloser
	if err == nil {
		log, err = s.openLog(r.Context(), taubyte.ProjectID(r.URL.Query().Get("project")), root)
	}
	if err != nil {
		rpc.WriteError(w, err, codes)
		return
	}
	defer log.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, log); err != nil {
		panic(http.ErrAbortHandler) // so that the part does not look like the whole
	}
}
