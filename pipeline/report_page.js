"use strict";
// One clock for the films of a pair: the first film leads, the others are put right when they are off by a frame.
for (const player of document.querySelectorAll(".player")) {
  const films = [...player.querySelectorAll("video")];
  if (!films.length) continue;
  const fps = Number(player.dataset.fps), frames = Number(player.dataset.frames);
  const button = player.querySelector("button"), slider = player.querySelector("input"), told = player.querySelector("output");
  const lead = films[0];
  let at = 0, playing = false;
  const middle = (frame) => (frame + 0.5) / fps;
  const loaded = () => lead.hasAttribute("src");

  function tell() {
    slider.value = at;
    const text = `frame ${at + 1} of ${frames}, ${(at / fps).toFixed(2)} s`;
    told.textContent = text;
    slider.setAttribute("aria-valuetext", text);
  }
  function seek(frame) {
    at = Math.min(Math.max(frame, 0), frames - 1);
    for (const film of films) film.currentTime = middle(at);
    tell();
  }
  function follow() {
    if (!playing) return;
    if (lead.ended || lead.currentTime >= frames / fps - 0.25 / fps) { restart(); return; }
    for (const film of films.slice(1)) {
      if (Math.abs(film.currentTime - lead.currentTime) > 0.6 / fps) film.currentTime = lead.currentTime;
    }
    at = Math.min(Math.floor(lead.currentTime * fps + 1e-3), frames - 1);
    tell();
    requestAnimationFrame(follow);
  }
  function restart() {
    for (const film of films) { film.pause(); film.currentTime = 0; }
    start();
  }
  function start() {
    Promise.all(films.map((film) => film.play())).then(() => requestAnimationFrame(follow)).catch(() => {});
  }
  function play() {
    for (const other of document.querySelectorAll(".player.playing")) if (other !== player) other.dispatchEvent(new Event("halt"));
    load();
    playing = true;
    player.classList.add("playing");
    button.textContent = "Pause";
    for (const film of films) film.currentTime = at >= frames - 1 ? 0 : middle(at);
    start();
  }
  function halt() {
    if (!playing) return;
    playing = false;
    player.classList.remove("playing");
    button.textContent = "Play";
    for (const film of films) film.pause();
    seek(at);
  }
  // A browser keeps few films open at once: only those near the screen have their bytes.
  function load() {
    if (loaded()) return;
    for (const film of films) {
      film.src = film.dataset.src;
      film.addEventListener("loadedmetadata", () => { film.currentTime = middle(at); }, { once: true });
    }
  }
  function unload() {
    if (!loaded()) return;
    halt();
    for (const film of films) { film.removeAttribute("src"); film.load(); }
  }
  button.addEventListener("click", () => (playing ? halt() : play()));
  slider.addEventListener("input", () => { const frame = Number(slider.value); load(); halt(); seek(frame); });
  player.addEventListener("halt", halt);
  new IntersectionObserver((seen) => { seen[seen.length - 1].isIntersecting ? load() : unload(); }, { rootMargin: "800px" }).observe(player);
  tell();
}
for (const copy of document.querySelectorAll("button.copy")) {
  copy.addEventListener("click", () => {
    const command = copy.previousElementSibling;
    const done = () => { copy.textContent = "Copied"; setTimeout(() => { copy.textContent = "Copy"; }, 1500); };
    const select = () => getSelection().selectAllChildren(command);
    if (navigator.clipboard) navigator.clipboard.writeText(command.textContent).then(done, select);
    else select();
  });
}
