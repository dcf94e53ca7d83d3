// Makes the still figures live. The library is in the page; nothing is loaded, and the policy in the head forbids it.
(async () => {
  const root = document.documentElement;
  try {
    const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (c) => c.charCodeAt(0));
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    new Function(await new Response(unpacked).text())();
    root.classList.add("ready"); // before drawing: a chart takes its width from a box that shows
    const options = { mode: "vega-lite", renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
    for (const { at, spec } of JSON.parse(document.getElementById("charts").textContent)) {
      await window.vegaEmbed(document.getElementById(at), spec, options);
    }
    root.classList.add("drawn");
  } catch (error) {
    root.classList.remove("ready"); // an older browser keeps the still figures
    console.error(error);
  }
})();
