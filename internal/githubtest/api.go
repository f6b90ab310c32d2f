package githubtest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A status is what became of a commit.
type Status struct{ State, Context, Description, TargetURL string }

type key struct {
	ID        int64
	Key, Name string
	ReadOnly  bool
}

type hook struct {
	ID          int64
	URL, Secret string
	Events      []string
}

// api answers a request that was checked. The server's lock is held.
func (s *Server) api(w http.ResponseWriter, r *http.Request, t *token, params map[string]string) {
	path := strings.TrimPrefix(r.URL.Path, prefix)
	switch {
	case path == "/meta":
		m := map[string]any{}
		if !s.HideHostKeys {
			m["ssh_keys"] = []string{s.ssh.hostKey}
		}
		s.reply(w, http.StatusOK, s.object("api-overview", m))
		return
	case strings.HasPrefix(path, "/app/"):
		s.installationToken(w, r, params)
		return
	case path == "/user":
		if t.app {
			fail(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		s.reply(w, http.StatusOK, s.object("private-user", map[string]any{"login": t.login, "id": 5, "user_view_type": "private", "type": "User"}))
		return
	}
	var repo *Repository
	if id, err := strconv.ParseInt(params["repository_id"], 10, 64); err == nil {
		repo = s.repos[id]
	} else {
		repo = s.named(params["owner"] + "/" + params["repo"])
		if repo == nil {
			if moved := s.moved(params["owner"] + "/" + params["repo"]); moved != nil {
				rest := strings.TrimPrefix(path, "/repos/"+params["owner"]+"/"+params["repo"])
				w.Header().Set("Location", s.URL+prefix+"/repositories/"+strconv.FormatInt(moved.ID, 10)+rest)
				fail(w, http.StatusMovedPermanently, "Moved Permanently")
				return
			}
		}
	}
	if repo == nil || repo.right(t) == "" {
		fail(w, http.StatusNotFound, "Not Found")
		return
	}
	admin := repo.right(t) == "admin"
	full := prefix + "/repos/" + repo.Name
	rest := strings.TrimPrefix(r.URL.Path, full)
	if (strings.HasPrefix(rest, "/keys") || strings.HasPrefix(rest, "/hooks")) && !admin {
		fail(w, http.StatusNotFound, "Not Found") // as GitHub does
		return
	}
	switch {
	case rest == "" || strings.HasPrefix(path, "/repositories/"):
		s.reply(w, http.StatusOK, s.fullRepository(repo, admin))
	case rest == "/branches":
		all := []map[string]any{}
		for _, b := range repo.branches() {
			all = append(all, map[string]any{"name": b.name, "protected": false, "commit": map[string]any{"sha": b.commit, "url": s.URL + full + "/commits/" + b.commit}})
		}
		s.reply(w, http.StatusOK, page(s, w, r, all))
	case strings.HasPrefix(rest, "/branches/"):
		for _, b := range repo.branches() {
			if b.name == params["branch"] {
				m := s.object("branch-with-protection", map[string]any{"name": b.name})
				commit := s.object("commit", map[string]any{"sha": b.commit})
				m["commit"] = commit
				s.reply(w, http.StatusOK, m)
				return
			}
		}
		fail(w, http.StatusNotFound, "Branch not found")
	case strings.HasPrefix(rest, "/keys"):
		s.keys(w, r, repo, params["key_id"])
	case strings.HasPrefix(rest, "/hooks"):
		s.hooks(w, r, repo, params["hook_id"])
	case strings.HasPrefix(rest, "/statuses/"):
		var in struct {
			State, Context, Description string
			TargetURL                   string `json:"target_url"`
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		if !repo.has(params["sha"]) {
			fail(w, http.StatusUnprocessableEntity, "No commit found for SHA: "+params["sha"])
			return
		}
		repo.statuses[params["sha"]] = append(repo.statuses[params["sha"]], Status{in.State, in.Context, in.Description, in.TargetURL})
		s.reply(w, http.StatusCreated, s.object("status", map[string]any{"state": in.State, "context": in.Context}))
	default:
		fail(w, http.StatusNotFound, "Not Found")
	}
}

func (s *Server) fullRepository(r *Repository, admin bool) map[string]any {
	login, name, _ := strings.Cut(r.Name, "/")
	return s.object("full-repository", map[string]any{
		"id": r.ID, "name": name, "full_name": r.Name, "private": true, "default_branch": "main",
		"owner":       s.object("simple-user", map[string]any{"login": login}),
		"permissions": map[string]any{"admin": admin, "push": true, "pull": true},
		"clone_url":   s.URL + "/" + r.Name + ".git",
		"ssh_url":     "ssh://git@" + s.ssh.addr + "/" + r.Name + ".git",
	})
}

func (s *Server) keys(w http.ResponseWriter, r *http.Request, repo *Repository, id string) {
	show := func(k key) map[string]any {
		return s.object("deploy-key", map[string]any{"id": k.ID, "key": k.Key, "title": k.Name, "read_only": k.ReadOnly, "verified": true})
	}
	switch r.Method {
	case http.MethodGet:
		all := []map[string]any{}
		for _, k := range repo.keys {
			all = append(all, show(k))
		}
		s.reply(w, http.StatusOK, page(s, w, r, all))
	case http.MethodPost:
		var in struct {
			Title, Key string
			ReadOnly   bool `json:"read_only"`
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		for _, other := range s.repos {
			for _, k := range other.keys {
				if strings.Fields(k.Key)[1] == strings.Fields(in.Key)[1] {
					fail(w, http.StatusUnprocessableEntity, "key is already in use")
					return
				}
			}
		}
		// GitHub keeps no comment of a key.
		k := key{ID: s.newIDLocked(), Key: strings.Join(strings.Fields(in.Key)[:2], " "), Name: in.Title, ReadOnly: in.ReadOnly}
		repo.keys = append(repo.keys, k)
		s.reply(w, http.StatusCreated, show(k))
	case http.MethodDelete:
		for i, k := range repo.keys {
			if strconv.FormatInt(k.ID, 10) == id {
				repo.keys = append(repo.keys[:i:i], repo.keys[i+1:]...)
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		fail(w, http.StatusNotFound, "Not Found")
	}
}

func (s *Server) hooks(w http.ResponseWriter, r *http.Request, repo *Repository, id string) {
	show := func(h hook) map[string]any {
		return s.object("hook", map[string]any{
			"id": h.ID, "type": "Repository", "name": "web", "active": true, "events": h.Events,
			"config": map[string]any{"url": h.URL, "content_type": "json", "insecure_ssl": "0", "secret": "********"},
		})
	}
	var in struct {
		Events []string
		Config struct {
			URL         string
			Secret      string
			ContentType string `json:"content_type"`
		}
	}
	if r.Method != http.MethodGet {
		_ = json.NewDecoder(r.Body).Decode(&in)
	}
	switch r.Method {
	case http.MethodGet:
		all := []map[string]any{}
		for _, h := range repo.webhooks {
			all = append(all, show(h))
		}
		s.reply(w, http.StatusOK, page(s, w, r, all))
	case http.MethodPost:
		for _, h := range repo.webhooks {
			if h.URL == in.Config.URL {
				fail(w, http.StatusUnprocessableEntity, "Hook already exists on this repository")
				return
			}
		}
		h := hook{ID: s.newIDLocked(), URL: in.Config.URL, Secret: in.Config.Secret, Events: in.Events}
		repo.webhooks = append(repo.webhooks, h)
		s.reply(w, http.StatusCreated, show(h))
	default:
		for i, h := range repo.webhooks {
			if strconv.FormatInt(h.ID, 10) != id {
				continue
			}
			if r.Method == http.MethodDelete {
				repo.webhooks = append(repo.webhooks[:i:i], repo.webhooks[i+1:]...)
				w.WriteHeader(http.StatusNoContent)
				return
			}
			repo.webhooks[i].Secret, repo.webhooks[i].Events = in.Config.Secret, in.Events
			s.reply(w, http.StatusOK, show(repo.webhooks[i]))
			return
		}
		fail(w, http.StatusNotFound, "Not Found")
	}
}

// installationToken takes the app's own token (a JWT) for one of its installation.
func (s *Server) installationToken(w http.ResponseWriter, r *http.Request, params map[string]string) {
	parts := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	var claims struct {
		Issued  int64  `json:"iat"`
		Expires int64  `json:"exp"`
		Issuer  string `json:"iss"`
	}
	good := len(parts) == 3 && s.app != nil && params["installation_id"] == "8"
	if good {
		sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
		text, _ := base64.RawURLEncoding.DecodeString(parts[1])
		now := s.Now().Unix()
		good = rsa.VerifyPKCS1v15(s.app, crypto.SHA256, sum[:], signature) == nil && json.Unmarshal(text, &claims) == nil &&
			claims.Issuer == "7" && claims.Issued <= now && claims.Expires > now && claims.Expires-claims.Issued <= 600
	}
	if !good {
		fail(w, http.StatusUnauthorized, "A JSON web token could not be decoded")
		return
	}
	text := "ghs_" + hex.EncodeToString(random(18))
	s.tokens[text] = &token{login: "app", app: true}
	s.reply(w, http.StatusCreated, s.object("installation-token", map[string]any{
		"token": text, "expires_at": s.Now().Add(time.Hour).UTC().Format(time.RFC3339), "permissions": map[string]any{"administration": "write"},
	}))
}
