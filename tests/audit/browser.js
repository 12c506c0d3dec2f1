// Open reports in a real Chromium and try them; prints what was found as JSON.
//   node browser.js CHROMIUM SHOTS FILE...
const { chromium } = require("playwright-core");
const { readFileSync } = require("fs");

const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf-8");
const [executablePath, shots, ...files] = process.argv.slice(2);

async function tried(page) {
  const found = {};
  const visible = (selector) => page.locator(selector).first().isVisible();
  const focused = () => page.evaluate(() => document.activeElement.dataset.i || document.activeElement.id);
  const heading = () => page.locator("#panel-title").textContent();
  found.stops = await page.locator(".row:not([hidden]) .tokens [tabindex='0']").count();
  const edited = page.locator(".row:not([hidden]) .tokens .t[class*=' l']");
  found.edited = await edited.count();
  if (!found.edited) return found;
  await edited.first().click();
  found.clicked = await heading();
  found.shown = await page.locator("#panel").textContent();
  await page.locator("#details .open").first().click();
  found.latent = await heading();
  found.path = await page.locator("#details .chain li").allTextContents();
  await page.locator("#details button").first().click();
  found.back = await heading();
  await page.keyboard.press("Escape");
  found.closed = !(await visible("#panel"));
  const start = await focused();
  await page.keyboard.press("ArrowRight");
  found.moved = (await focused()) !== start;
  await page.keyboard.press("Enter");
  found.entered = await heading();
  found.focus = await focused();
  await page.keyboard.press("Escape");
  await page.locator(".row:not([hidden]) .strip").click({ position: { x: 5, y: 5 } });
  found.strip = await visible("#panel");
  await page.keyboard.press("Escape");
  if (await page.locator("#row").count()) {
    await page.locator("#next").click();
    found.second = await page.locator(".row:not([hidden])").getAttribute("data-row");
    found.alone = await page.locator(".row:not([hidden])").count();
    await page.locator("#row").selectOption("0");
    found.first = await page.locator(".row:not([hidden])").getAttribute("data-row");
  }
  return found;
}

async function faults(page) {
  // The page's policy lets no other script run; the driver's own are let through.
  await page.evaluate(axe);
  const result = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  return result.violations.map((one) => ({
    id: one.id, impact: one.impact, count: one.nodes.length, where: one.nodes[0].html.slice(0, 160),
    why: one.nodes[0].failureSummary,
  }));
}

(async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const found = [];
  for (const [number, file] of files.entries()) {
    for (const scheme of ["light", "dark"]) {
      for (const width of [390, 1280]) {
        const context = await browser.newContext({
          viewport: { width, height: 900 }, colorScheme: scheme, bypassCSP: false,
        });
        const page = await context.newPage();
        const errors = [];
        const requests = [];
        page.on("console", (message) => {
          if (["error", "warning"].includes(message.type())) errors.push(message.text());
        });
        page.on("pageerror", (error) => errors.push(String(error)));
        page.on("dialog", (dialog) => { errors.push(`dialog ${dialog.message()}`); dialog.dismiss(); });
        page.on("request", (request) => requests.push(request.url()));
        await page.goto(`file://${file}`);
        // From the start of loading until the page answers a click and has been painted.
        const seconds = await page.evaluate(() => new Promise((resolve) => {
          requestAnimationFrame(() => setTimeout(() => resolve(performance.now() / 1000)));
        }));
        const overflow = () => page.evaluate(
          () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        const one = { file, scheme, width, seconds, overflow: await overflow() };
        one.tokens = await page.locator(".tokens .t").count();
        if (shots !== "-") await page.screenshot({ path: `${shots}/${number}_${scheme}_${width}.png` });
        const before = Date.now();
        one.tried = await tried(page);
        one.triedSeconds = (Date.now() - before) / 1000;
        one.axe = one.tokens < 1000 ? await faults(page) : [];
        const edited = page.locator(".row:not([hidden]) .tokens .t[class*=' l']");
        if (await edited.count()) {
          await edited.first().click();
          if (one.tokens < 1000) one.axe.push(...await faults(page));
          await page.locator("#details .open").first().click();
          if (one.tokens < 1000) one.axe.push(...await faults(page));
          if (shots !== "-") await page.screenshot({ path: `${shots}/${number}_${scheme}_${width}_latent.png` });
        }
        one.overflowOpen = await overflow();
        one.background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        one.scripts = await page.evaluate(() => document.scripts.length);
        one.errors = errors;
        one.requests = requests.filter((url) => !url.startsWith("data:"));
        found.push(one);
        await context.close();
      }
    }
  }
  await browser.close();
  console.log(JSON.stringify(found));
})();
