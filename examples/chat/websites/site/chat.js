const said = document.getElementById("said")
const state = document.getElementById("state")
const form = document.getElementById("say")
const text = new TextDecoder()
let socket = null

function show(line) {
  const item = document.createElement("li")
  item.textContent = line
  said.append(item)
  while (said.children.length > 100) said.firstChild.remove()
}

// connect opens the WebSocket, and again when it ends: nodes come and go.
async function connect(wait = 250) {
  try {
    const path = await (await fetch("/socket")).text()
    socket = new WebSocket(new URL("/" + path, location.href.replace(/^http/, "ws")))
    socket.binaryType = "arraybuffer"
    socket.onopen = () => { state.textContent = "connected"; wait = 250 }
    socket.onmessage = e => show(typeof e.data === "string" ? e.data : text.decode(e.data))
    socket.onclose = () => again(wait)
  } catch {
    again(wait)
  }
}

function again(wait) {
  socket = null
  state.textContent = "connecting …"
  setTimeout(connect, wait, Math.min(wait * 2, 10_000))
}

form.onsubmit = e => {
  e.preventDefault()
  if (socket?.readyState !== WebSocket.OPEN) return
  const line = form.elements.name.value + ": " + form.elements.text.value
  socket.send(line)
  show(line) // a socket does not hear itself
  form.elements.text.value = ""
}

connect()
