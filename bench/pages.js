// When a person sees the first figure of a page, and its last change: the times at which the browser has painted them.
// Milliseconds since the click, or since the start of the first load of the app. Read by bench/pages.py.
(() => {
  const DRAWINGS = [".js-plotly-plot .main-svg", "[data-testid=stDataFrame]", "[data-testid=stImage] img", "[data-testid=stMarkdownContainer] table"];
  // A page whose data source has not been monitored shows a message instead.
  const SHOWN = [...DRAWINGS, "[data-testid=stAlert]"].map((each) => `[data-stale=false] ${each}`).join(", ");
  const COMPONENTS = "[data-stale=false] [data-testid^=stBidiComponent]";
  const heading = () => document.querySelector("h1")?.textContent ?? "";
  const state = { start: 0, before: "", first: null, last: 0, changed: false };

  function drawn() {
    if (document.querySelector(SHOWN)) return true;
    return [...document.querySelectorAll(COMPONENTS)].some((each) => (each.shadowRoot ?? each).querySelector("svg, table"));
  }
  function noted() {
    const now = performance.now();
    if (state.first === null && heading() && heading() !== state.before && drawn()) state.first = now - state.start;
    state.last = now - state.start;
  }
  const channel = new MessageChannel();
  channel.port1.onmessage = noted;
  // What is seen of a page: not Streamlit's toolbar, nor the table for screen readers in the canvas of a data frame.
  function isSeen(node) {
    const element = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
    return element?.getRootNode() !== document || Boolean(element.closest("[data-testid=stMain]") && !element.closest("canvas"));
  }
  const observer = new MutationObserver((changes) => {
    if (state.changed || !changes.some((each) => isSeen(each.target))) return;
    state.changed = true;
    // A message that is sent before the next frame is painted arrives after it.
    requestAnimationFrame(() => { state.changed = false; channel.port2.postMessage(null); });
  });
  const observe = (root) => observer.observe(root, { subtree: true, childList: true, attributes: true, characterData: true });
  const attachShadow = Element.prototype.attachShadow;
  Element.prototype.attachShadow = function (options) {
    const root = attachShadow.call(this, options);
    observe(root);
    return root;
  };
  observe(document);
  addEventListener("click", (event) => Object.assign(state, { start: event.timeStamp, before: heading(), first: null, last: 0 }), true);

  window.benchPages = {
    // Whether the page is rendered: it has changed, the script has run, every part has arrived, and nothing changes any more.
    settled: (milliseconds) =>
      state.last > 0 &&
      Boolean(document.querySelector("[data-testid=stApp][data-test-script-state=notRunning]")) &&
      !document.querySelector("[data-testid=stSkeleton]") &&
      performance.now() - state.start - state.last > milliseconds,
    times: () => [state.first, state.last],
  };
})();
