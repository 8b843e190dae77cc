// A page that is opened from disk may start no worker. The search then runs in a hidden frame, which
// answers as a worker does: a message in, a message out.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const base = new URL(address, location.href);
      this.onmessage = null;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      this.inside = this.frame.contentWindow;
      const page = this.inside.document;
      const load = (one) =>
        new Promise((done) => {
          const script = page.createElement("script");
          script.src = new URL(one, base).href;
          script.onload = script.onerror = done;
          page.body.appendChild(script);
        });
      this.inside.importScripts = (...all) =>
        all.reduce((before, one) => before.then(() => load(one)), Promise.resolve());
      this.inside.postMessage = (data) =>
        setTimeout(() => {
          const message = new MessageEvent("message", { data });
          this.dispatchEvent(message);
          if (this.onmessage) this.onmessage(message);
        });
      this.ready = load(base);
    }
    postMessage(data) {
      this.ready.then(() => {
        this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
      });
    }
    terminate() {
      this.frame.remove();
    }
  };
}
