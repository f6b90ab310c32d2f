// Package siterules reads the files _redirects and _headers at the root of a website,
// in the format of Netlify and Cloudflare Pages, and applies them to requests. A build
// parses them to report faults; a node that serves the website parses the same files.
//
// A line of _redirects is a path, query parameters, a target and a status:
//
//	/old             /new
//	/news/*          /blog/:splat       302
//	/users/:id       /profile?id=:id    307
//	/store id=:id    /products/:id
//	/app/*           /app/index.html    200
//
// _headers has paths, each followed by the headers of what is served there:
//
//	/assets/*
//	  Cache-Control: public, max-age=86400
//	  ! X-Frame-Options
//
// A path may have one splat (*), which stands for any characters, and placeholders
// (:name), which stand for one segment each. The first redirect that matches a request
// is the one that counts; of headers all rules that match are applied in order. A slash at the end
// of a request's path makes no difference.
package siterules
