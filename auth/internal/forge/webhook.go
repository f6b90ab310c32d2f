package forge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

// Webhooks says how a provider sends events. GitHub and those after it send nearly the
// same bodies under headers of their own.
type Webhooks struct {
	Provider string
	// Event, Delivery and Signature are the names of headers. SignaturePrefix is what
	// stands before the hexadecimal HMAC-SHA-256 of the body.
	Event, Delivery, Signature, SignaturePrefix string
}

// payload is as much of a body as is looked at.
type payload struct {
	Ref        string     `json:"ref"`
	RefType    string     `json:"ref_type"`
	After      string     `json:"after"`
	Action     string     `json:"action"`
	Number     int        `json:"number"`
	Repository repository `json:"repository"`

	PullRequest struct {
		State string `json:"state"`
		Head  side   `json:"head"`
		Base  side   `json:"base"`
	} `json:"pull_request"`
}

type side struct {
	Ref        string      `json:"ref"`
	SHA        string      `json:"sha"`
	Repository *repository `json:"repo"` // none where a fork was deleted
}

type repository struct {
	ID       int64  `json:"id"`
	FullName string `json:"full_name"`
}

// Read is auth.EventProvider's Event.
func (w Webhooks) Read(header http.Header, body []byte, secrets ...string) (auth.Event, error) {
	if len(body) > auth.MaxEvent {
		return auth.Event{}, fmt.Errorf("%w: an event of %d bytes, where %d are the most", taubyte.ErrTooLarge, len(body), auth.MaxEvent)
	}
	if !w.signed(header.Get(w.Signature), body, secrets) {
		return auth.Event{}, fmt.Errorf("%w: the event is not signed with a secret of this webhook", taubyte.ErrForbidden)
	}
	return w.parse(header, body)
}

// signed compares the signature with that of each secret, every time with all of them.
func (w Webhooks) signed(signature string, body []byte, secrets []string) bool {
	text, ok := strings.CutPrefix(signature, w.SignaturePrefix)
	given, err := hex.DecodeString(text)
	good := false
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		if hmac.Equal(mac.Sum(nil), given) && secret != "" {
			good = true
		}
	}
	return good && ok && err == nil
}

func (w Webhooks) parse(header http.Header, body []byte) (auth.Event, error) {
	e := auth.Event{Type: header.Get(w.Event), Delivery: header.Get(w.Delivery), Kind: auth.EventOther}
	if e.Type == "" || len(e.Type) > 100 || e.Delivery == "" || len(e.Delivery) > 200 {
		return auth.Event{}, fmt.Errorf("%w event: it has no %s and %s", taubyte.ErrInvalid, w.Event, w.Delivery)
	}
	if t, _, _ := mime.ParseMediaType(header.Get("Content-Type")); t == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return auth.Event{}, fmt.Errorf("%w event: %w", taubyte.ErrInvalid, err)
		}
		body = []byte(form.Get("payload"))
	}
	switch e.Type {
	case "push", "ping", "create", "delete", "pull_request":
	default:
		if !json.Valid(body) {
			return auth.Event{}, fmt.Errorf("%w event %s: its body is no JSON", taubyte.ErrInvalid, e.Type)
		}
		return e, nil
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return auth.Event{}, fmt.Errorf("%w event %s: %w", taubyte.ErrInvalid, e.Type, err)
	}
	if p.Repository.ID <= 0 && e.Type == "ping" { // of an organisation's webhook
		e.Kind = auth.EventPing
		return e, nil
	}
	if p.Repository.ID <= 0 || p.Repository.FullName == "" {
		return auth.Event{}, fmt.Errorf("%w event %s: it names no repository", taubyte.ErrInvalid, e.Type)
	}
	e.Repository, e.Name = w.id(p.Repository), p.Repository.FullName
	if err := w.fill(&e, p); err != nil {
		return auth.Event{}, fmt.Errorf("%w event %s of %s: %w", taubyte.ErrInvalid, e.Type, e.Name, err)
	}
	return e, nil
}

func (w Webhooks) id(r repository) taubyte.RepositoryID {
	return auth.NewRepositoryID(w.Provider, strconv.FormatInt(r.ID, 10))
}

// fill says what an event of a repository is.
func (w Webhooks) fill(e *auth.Event, p payload) error {
	switch e.Type {
	case "ping":
		e.Kind = auth.EventPing
	case "push":
		branch, ok := strings.CutPrefix(p.Ref, "refs/heads/")
		if !ok {
			if !strings.HasPrefix(p.Ref, "refs/") {
				return fmt.Errorf("reference %q", p.Ref)
			}
			return nil // a tag
		}
		commit, err := hash(p.After)
		if err != nil {
			return err
		}
		if strings.Trim(string(commit), "0") == "" {
			commit = ""
		}
		e.Kind, e.Branch, e.Commit = auth.EventPush, taubyte.Branch(branch), commit
	case "create", "delete":
		if p.RefType != "branch" && p.RefType != "tag" || p.Ref == "" {
			return fmt.Errorf("reference %q of type %q", p.Ref, p.RefType)
		}
		if p.RefType == "tag" {
			return nil
		}
		e.Kind, e.Branch = auth.EventBranchCreated, taubyte.Branch(strings.TrimPrefix(p.Ref, "refs/heads/"))
		if e.Type == "delete" {
			e.Kind = auth.EventBranchDeleted
		}
	case "pull_request":
		commit, err := hash(p.PullRequest.Head.SHA)
		if err != nil {
			return err
		}
		if p.Number <= 0 || p.Action == "" || p.PullRequest.Head.Ref == "" || p.PullRequest.Base.Ref == "" {
			return fmt.Errorf("pull request %d, action %q", p.Number, p.Action)
		}
		e.Kind, e.Branch, e.Commit = auth.EventPullRequest, taubyte.Branch(p.PullRequest.Base.Ref), commit
		e.PullRequest = &auth.PullRequest{
			Number: p.Number, Action: p.Action, Open: p.PullRequest.State == "open", Branch: taubyte.Branch(p.PullRequest.Head.Ref),
		}
		if from := p.PullRequest.Head.Repository; from != nil {
			e.PullRequest.From = w.id(*from)
		}
	}
	if len(e.Branch) > 1024 || e.Kind != auth.EventPing && e.Branch == "" {
		return fmt.Errorf("branch %q", e.Branch)
	}
	return nil
}

// hash checks a commit's.
func hash(text string) (taubyte.Commit, error) {
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != 20 && len(raw) != 32 || strings.ToLower(text) != text {
		return "", fmt.Errorf("commit %q", text)
	}
	return taubyte.Commit(text), nil
}
